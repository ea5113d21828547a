"""Commands about one agent, and the list of agents: gather, decide, apply, and see to what follows."""

from __future__ import annotations

import hashlib
import secrets

from prometheus_client import Counter

from countersign_chassis import Connection
from countersign_contracts.commands import (
    Agents,
    AgentView,
    GetAgent,
    IssueCredentials,
    IssuedCredentials,
    ListAgents,
    RegisterAgent,
    SetAgentStatus,
)
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.fleet import Credential
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now

from . import lifecycle
from .aftermath import Aftermath
from .heartbeats import Heartbeats
from .lifecycle import Agent
from .listing import Written, fitting, written
from .nats_users import AgentsAccount
from .outbox import Outbox
from .store import Store
from .upkeep import require_present

#: A page ends early where it would not fit into one message.
PAGE_BYTES = 700 * 1024


class AgentCommands:
    """Answers the commands about agents."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        aftermath: Aftermath,
        heartbeats: Heartbeats,
        account: AgentsAccount,
        max_live_credentials: int,
        issued: Counter,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._aftermath = aftermath
        self._heartbeats = heartbeats
        self._account = account
        self._max_live_credentials = max_live_credentials
        self._issued = issued

    async def register(self, command: RegisterAgent) -> AgentView:
        """Make a new agent known. Raises `conflict` if the id is taken, `invalid` naming the fields."""
        at = now()
        change = lifecycle.register(command, at, prefixed("evt"))
        async with self._store.transaction() as connection:
            created = await self._store.create(connection, change, command.by, at)
            if created:
                await self._outbox.add(connection, change.events)
        if not created:
            raise lifecycle.already_registered(await self._known(command.agent_id))
        await self._aftermath.of(within_s=command.rpc.timeout_s - 1, agents=[command.agent_id])
        return AgentView(agent=change.record, created_at=at)

    async def list(self, command: ListAgents) -> Agents:
        """A page of agents by id."""
        found = await self._store.page(
            status=command.status,
            phase=command.phase,
            team=command.team,
            agent_type=command.agent_type,
            after=command.after,
            limit=command.limit + 1,
            at=now(),
        )
        items = [written(row, *(self._heartbeats.latest(row["agent_id"]) or (None, None))) for row in found]
        count, more = fitting(items, command.limit, PAGE_BYTES)
        return Written.of(items[:count], found[count - 1]["agent_id"] if more else None)

    async def get(self, command: GetAgent) -> AgentView:
        """One agent. Raises `not_found`."""
        agent = await self._known(command.agent_id)
        require_present(agent)
        return self._view(agent)

    async def set_status(self, command: SetAgentStatus) -> AgentView:
        """Pause, resume or revoke; after a revocation the agent's NATS connections are gone when this returns.

        Again is harmless. Raises `not_found`, `conflict`, and :class:`Unavailable` if the order is committed and not
        in force everywhere yet.
        """
        at = now()
        async with self._store.transaction() as connection:
            agent = await self._locked(connection, command.agent_id)
            change = lifecycle.set_status(agent, command, at, prefixed("evt"))
            if change is not None:
                await self._store.save(connection, change, command.by, at)
                await self._outbox.add(connection, change.events)
        behind = await self._aftermath.of(
            within_s=command.rpc.timeout_s - 1, agents=[command.agent_id], revoke=command.status == "revoked"
        )
        if behind:
            raise Unavailable(
                f"agent `{command.agent_id}` is {command.status}, and stays so, but that is not in force everywhere:"
                f" {'; '.join(behind)}. It is retried until it is; the same order again waits for it"
            )
        return self._view(await self._known(command.agent_id))

    async def issue_credentials(self, command: IssueCredentials) -> IssuedCredentials:
        """New credentials, their secrets for this once; with `replace` the older ones are dead when this returns.

        Raises `not_found`, `conflict`, and :class:`Unavailable` if nats-server has not confirmed that: the secrets are
        withheld then, since "replaced" would not be true yet.
        """
        if not command.kinds:
            raise CountersignError("`kinds` is empty; allowed: http, nats", code="invalid")
        at = now()
        expires_at = lifecycle.expiry(at, command.lifetime_s)
        issued: list[Credential] = []
        http_token = nats_creds = None
        if "http" in command.kinds:
            http_token = f"csa_{secrets.token_urlsafe(32)}"
            digest = hashlib.sha256(http_token.encode()).hexdigest()
            issued.append(Credential(credential_id=prefixed("crd"), kind="http", sha256=digest, expires_at=expires_at))
        if "nats" in command.kinds:
            nkey, nats_creds = self._account.new_user(command.agent_id, at, expires_at)
            issued.append(Credential(credential_id=prefixed("crd"), kind="nats", nkey=nkey, expires_at=expires_at))
        async with self._store.transaction() as connection:
            agent = await self._locked(connection, command.agent_id)
            change = lifecycle.issue(agent, command, tuple(issued), at, prefixed("evt"), self._max_live_credentials)
            await self._store.save(connection, change, command.by, at)
            await self._outbox.add(connection, change.events)
        for credential in issued:
            self._issued.labels(credential.kind).inc()
        behind = await self._aftermath.of(
            within_s=command.rpc.timeout_s - 1, agents=[command.agent_id], revoke=change.voids_nats_users
        )
        if behind and change.voids_nats_users:
            raise Unavailable(
                f"the older credentials of agent `{command.agent_id}` are void, but that is not in force everywhere:"
                f" {'; '.join(behind)}. It is retried until it is; the new ones are withheld, so ask for others then"
            )
        return IssuedCredentials(
            agent_id=command.agent_id,
            http_token=http_token,
            nats_creds=nats_creds,
            credential_ids=tuple(credential.credential_id for credential in issued),
            expires_at=expires_at,
            revision=change.record.revision,
        )

    async def _known(self, agent_id: str) -> Agent:
        agent = await self._store.find(agent_id, now())
        if agent is None:
            raise lifecycle.not_found(agent_id)
        return agent

    async def _locked(self, connection: Connection, agent_id: str) -> Agent:
        agent = (await self._store.lock(connection, [agent_id], now())).get(agent_id)
        if agent is None:
            raise lifecycle.not_found(agent_id)
        require_present(agent)
        return agent

    def _view(self, agent: Agent) -> AgentView:
        beat = self._heartbeats.latest(agent.record.agent_id)
        return agent.view() if beat is None else agent.view(*beat)
