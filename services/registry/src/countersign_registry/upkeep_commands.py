"""Commands that change or delete one agent: lock its row, decide, apply, and see to what follows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from countersign_contracts.agent_commands import DeleteAgent, UpdateAgent
from countersign_contracts.commands import AgentView
from countersign_contracts.errors import Unavailable
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now

from .aftermath import Aftermath
from .heartbeats import Heartbeats
from .lifecycle import Agent, Change
from .outbox import Outbox
from .store import Store
from .upkeep import delete, require_known, update

C = TypeVar("C", UpdateAgent, DeleteAgent)


class Upkeep:
    """Answers :class:`UpdateAgent` and :class:`DeleteAgent`."""

    def __init__(self, store: Store, outbox: Outbox, aftermath: Aftermath, heartbeats: Heartbeats) -> None:
        self._store = store
        self._outbox = outbox
        self._aftermath = aftermath
        self._heartbeats = heartbeats

    async def update(self, command: UpdateAgent) -> AgentView:
        """Describe an agent anew. Raises what :func:`.upkeep.update` does, and `not_found`."""
        change = await self._change(command, update)
        if change is not None:
            await self._aftermath.of(within_s=command.rpc.timeout_s - 1, agents=[command.agent_id])
        return await self._view(command.agent_id)

    async def delete(self, command: DeleteAgent) -> AgentView:
        """Delete an agent; its NATS connections are gone when this returns. Again is harmless.

        Raises `not_found`, and :class:`Unavailable` if it is committed and not in force everywhere yet.
        """
        await self._change(command, delete)
        behind = await self._aftermath.of(within_s=command.rpc.timeout_s - 1, agents=[command.agent_id], revoke=True)
        if behind:
            raise Unavailable(
                f"agent `{command.agent_id}` is deleted, and stays so, but that is not in force everywhere:"
                f" {'; '.join(behind)}. It is retried until it is"
            )
        return await self._view(command.agent_id)

    async def _change(self, command: C, decide: Callable[[Agent, C, datetime, str], Change | None]) -> Change | None:
        at = now()
        async with self._store.transaction() as connection:
            known = await self._store.lock(connection, [command.agent_id], at)
            agent = require_known(known.get(command.agent_id), command.agent_id)
            change = decide(agent, command, at, prefixed("evt"))
            if change is not None:
                await self._store.save(connection, change, command.by, at)
                await self._outbox.add(connection, change.events)
        return change

    async def _view(self, agent_id: str) -> AgentView:
        agent = require_known(await self._store.find(agent_id, now()), agent_id)
        beat = self._heartbeats.latest(agent_id)
        return agent.view() if beat is None else agent.view(*beat)
