"""Orders for every agent of a team or of a type: each agent's status changes, and is told, as if it had been alone."""

from __future__ import annotations

from datetime import datetime

from countersign_chassis import Connection
from countersign_contracts.commands import SetAgentStatus
from countersign_contracts.enrolment import Obeyed, OrderAgents, Ordered
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.fleet import FleetEvent
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now

from . import lifecycle
from .aftermath import Aftermath
from .outbox import Outbox
from .store import Store

#: How many agents one order takes: its answer has each of them, and one transaction changes all.
MOST = 2000

_WHO = """
FROM agent WHERE deleted_at IS NULL AND ($1::text IS NULL OR owner_team = $1) AND ($2::text IS NULL OR agent_type = $2)
"""
_TO_CHANGE = f"SELECT agent_id {_WHO} AND status NOT IN ($3, 'revoked') ORDER BY agent_id LIMIT $4"
_OTHERS = f"""
SELECT count(*) FILTER (WHERE status = $3) AS unchanged,
       count(*) FILTER (WHERE status = 'revoked' AND status <> $3) AS revoked
{_WHO}
"""


class Orders:
    """Answers :class:`OrderAgents`."""

    def __init__(self, store: Store, outbox: Outbox, aftermath: Aftermath) -> None:
        self._store = store
        self._outbox = outbox
        self._aftermath = aftermath

    async def order(self, command: OrderAgents) -> Ordered:
        """Pause, resume or revoke them; after a revocation their NATS connections are gone when this returns.

        Raises `invalid` if neither team nor type is given, and :class:`Unavailable` if the order is committed and not
        in force everywhere yet.
        """
        if command.team is None and command.agent_type is None:
            raise CountersignError(
                "say whose agents: `team`, `agent_type` or both; an order for all of them is a stop", code="invalid"
            )
        at = now()
        async with self._store.transaction() as connection:
            others = await connection.fetchrow(_OTHERS, command.team, command.agent_type, command.status)
            rows = await connection.fetch(_TO_CHANGE, command.team, command.agent_type, command.status, MOST + 1)
            changed = await self._change(connection, command, [row["agent_id"] for row in rows[:MOST]], at)
        behind = await self._aftermath.of(
            within_s=command.rpc.timeout_s - 1,
            agents=[each.agent_id for each in changed],
            revoke=command.status == "revoked",
        )
        if behind:
            raise Unavailable(
                f"{len(changed)} agents are {command.status}, and stay so, but that is not in force everywhere:"
                f" {'; '.join(behind)}. It is retried until it is; the same order again waits for it"
            )
        return Ordered(
            status=command.status,
            changed=tuple(changed),
            unchanged=others["unchanged"] if others else 0,
            revoked=others["revoked"] if others else 0,
            more=len(rows) > MOST,
        )

    async def _change(
        self, connection: Connection, command: OrderAgents, agent_ids: list[str], at: datetime
    ) -> list[Obeyed]:
        changed: list[Obeyed] = []
        events: list[FleetEvent] = []
        for agent in (await self._store.lock(connection, agent_ids, at)).values():
            if agent.record.status == "revoked":
                continue  # meanwhile, by somebody else
            one = SetAgentStatus(
                agent_id=agent.record.agent_id, status=command.status, reason=command.reason, by=command.by
            )
            change = lifecycle.set_status(agent, one, at, prefixed("evt"))
            if change is not None:
                await self._store.save(connection, change, command.by, at)
                events += change.events
                changed.append(Obeyed(agent_id=change.record.agent_id, revision=change.record.revision))
        if events:
            await self._outbox.add(connection, events)
        return changed
