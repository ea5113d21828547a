"""Agents' configuration: layers are set, what counts is sent to the agents that run, what they say of it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from prometheus_client import Counter

from countersign_chassis import Connection
from countersign_chassis.connection import NatsConnection
from countersign_contracts import subjects
from countersign_contracts.agent_config import (
    AgentConfig,
    Applied,
    ConfigApplied,
    ConfigChange,
    ConfigChanged,
    ConfigHistory,
    Configuration,
    Configured,
    ConfigValues,
    ConfigVersion,
    ConfigVersions,
    GetConfig,
    Rejection,
    ReportConfigured,
    RollBackConfig,
    SetConfig,
    config_digest,
)
from countersign_contracts.command import Done
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now

from .config_rules import check_layer, check_settings, effective, layers_of
from .config_store import ConfigStore, Configurable
from .lifecycle import not_found
from .outbox import Outbox
from .store import Store

_NOTHING = ConfigValues()


class Configurations:
    """Answers the commands about configuration, and agents that ask for theirs."""

    def __init__(
        self,
        store: Store,
        configs: ConfigStore,
        outbox: Outbox,
        connection: NatsConnection,
        environment: ConfigValues,
        said: Counter,
    ) -> None:
        self._store = store
        self._configs = configs
        self._outbox = outbox
        self._connection = connection
        self._environment = environment
        self._said = said
        #: who waits for what an agent says, by agent and digest
        self._awaited: dict[tuple[str, str], asyncio.Future[Configured]] = {}

    # --- people -------------------------------------------------------------------------------------

    async def get(self, command: GetConfig) -> AgentConfig:
        """An agent's layers and what counts. Raises `not_found`."""
        agent = await self._agent(command.agent_id)
        versions = await self._configs.present(None, _scopes(agent))
        layers = layers_of(agent.agent_id, agent.agent_type, self._environment, versions)
        values = effective(layers)
        applied = (await self._configs.applied([agent.agent_id])).get(agent.agent_id)
        digest = config_digest(values)
        return AgentConfig(
            agent_id=agent.agent_id,
            effective=values,
            digest=digest,
            heartbeat_s=agent.heartbeat_s,
            layers=layers,
            applied=applied,
            in_force=applied is not None and applied.result == "applied" and applied.digest == digest,
        )

    async def history(self, command: ConfigHistory) -> ConfigVersions:
        """A page of a layer's versions, the latest first."""
        found = await self._configs.page(command.scope, command.before, command.limit + 1)
        items = tuple(found[: command.limit])
        return ConfigVersions(items=items, next=items[-1].version if len(found) > command.limit else None)

    async def set(self, command: SetConfig) -> ConfigChange:
        """Replace a layer, and send what then counts to the agents that run.

        Raises `invalid` naming the field, `not_found` for an agent that is not there, `stale` if somebody else changed
        it meanwhile; then the old one stays in force.
        """
        check_layer(command.scope, command.values, command.settings_schema)
        async with self._store.transaction() as connection:
            await self._configs.lock(connection, command.scope)
            present = (await self._configs.present(connection, [command.scope])).get(command.scope)
            at = present.version if present is not None else 0
            if command.base is not None and command.base != at:
                raise CountersignError(
                    f"{command.scope} is at version {at}, not {command.base}: somebody changed it meanwhile; look at it"
                    " again",
                    code="stale",
                )
            before = present.values if present is not None else _NOTHING
            version = ConfigVersion(
                scope=command.scope,
                version=at + 1,
                values=command.values,
                settings_schema=command.settings_schema,
                by=command.by,
                at=now(),
                reason=command.reason,
            )
            if present is not None and (present.values, present.settings_schema) == (
                version.values,
                version.settings_schema,
            ):
                return ConfigChange(version=present, before=before, changed=False)
            agents = await self._whose(connection, command.scope)
            counting = await self._checked(connection, version, agents)
            await self._configs.add(connection, version)
            await self._outbox.add(connection, [ConfigChanged(change=version, before=before)])
        self._outbox.wake()
        change = ConfigChange(version=version, before=before, changed=True)
        return await self._sent(change, agents, counting, command.wait_s)

    async def roll_back(self, command: RollBackConfig) -> ConfigChange:
        """Set a layer to what an earlier version said. Raises `not_found`, and what :meth:`set` raises."""
        earlier = await self._configs.one(command.scope, command.version)
        if earlier is None:
            raise CountersignError(f"{command.scope} has no version {command.version}", code="not_found")
        return await self.set(
            SetConfig(
                scope=command.scope,
                values=earlier.values,
                settings_schema=earlier.settings_schema,
                by=command.by,
                reason=f"back to version {command.version}: {command.reason}"[:2000],
                wait_s=command.wait_s,
            )
        )

    # --- agents -------------------------------------------------------------------------------------

    async def ask(self, agent_id: str) -> Configuration:
        """What counts for an agent that asks."""
        found = await self.get(GetConfig(agent_id=agent_id))
        return Configuration(digest=found.digest, values=found.effective)

    async def report(self, command: ReportConfigured) -> Done:
        """What an agent says over HTTP."""
        await self.hear(command.agent_id, command.said)
        return Done()

    async def hear(self, agent_id: str, said: Configured) -> None:
        """An agent applied a configuration, or would not."""
        applied = Applied(digest=said.digest, result=said.result, reason=said.reason, at=now())
        async with self._store.transaction() as connection:
            new = await self._configs.say(connection, agent_id, applied)
            if new:
                event = ConfigApplied(
                    agent_id=agent_id, event=prefixed("evt"), by=agent_id, at=applied.at, applied=applied
                )
                await self._outbox.add(connection, [event])
        if new:
            self._said.labels(said.result).inc()
            self._outbox.wake()
        # whoever is told that it is in force finds it so
        waiting = self._awaited.get((agent_id, said.digest))
        if waiting is not None and not waiting.done():
            waiting.set_result(said)

    # --- parts --------------------------------------------------------------------------------------

    async def _agent(self, agent_id: str, connection: Connection | None = None) -> Configurable:
        found = await self._configs.agents(connection, agent_id=agent_id)
        if not found:
            raise not_found(agent_id)
        return found[0]

    async def _whose(self, connection: Connection, scope: str) -> list[Configurable]:
        kind, _, name = scope.partition(":")
        if kind == "type":
            return await self._configs.agents(connection, agent_type=name)
        return [await self._agent(name, connection)]

    async def _checked(
        self, connection: Connection, new: ConfigVersion, agents: Sequence[Configurable]
    ) -> dict[str, Configuration]:
        """What would count for each agent. Raises `invalid` for one that it would not be right for."""
        # of a type, those without a layer of their own are all alike
        of_a_type = new.scope.startswith("type:")
        apart = [agent for agent in agents if agent.own or not of_a_type]
        alike = [agent for agent in agents if of_a_type and not agent.own]
        scopes = sorted({new.scope, *(scope for agent in apart for scope in _scopes(agent))})
        versions = dict(await self._configs.present(connection, scopes)) | {new.scope: new}
        found = {agent.agent_id: self._counting(agent, versions) for agent in apart}
        if alike:
            found |= dict.fromkeys((agent.agent_id for agent in alike), self._counting(alike[0], versions))
        return found

    def _counting(self, agent: Configurable, versions: Mapping[str, ConfigVersion]) -> Configuration:
        values = effective(layers_of(agent.agent_id, agent.agent_type, self._environment, versions))
        of_type = versions.get(f"type:{agent.agent_type}")
        check_settings(f"agent {agent.agent_id}", values, of_type.settings_schema if of_type is not None else None)
        return Configuration(digest=config_digest(values), values=values)

    async def _sent(
        self, change: ConfigChange, agents: Sequence[Configurable], counting: Mapping[str, Configuration], wait_s: float
    ) -> ConfigChange:
        """Send it to the agents, and wait for what those say that run."""
        loop = asyncio.get_running_loop()
        waiting: dict[str, asyncio.Future[Configured]] = {}
        keys = []
        for agent in agents:
            body = counting[agent.agent_id]
            if agent.running:
                waiting[agent.agent_id] = loop.create_future()
                keys.append((agent.agent_id, body.digest))
                self._awaited[keys[-1]] = waiting[agent.agent_id]
            # one that is not there asks when it comes
            self._connection.client.send(f"{subjects.agent(agent.agent_id, 'control')}.config", body.to_bytes())
        try:
            if waiting and wait_s:
                await asyncio.wait(waiting.values(), timeout=wait_s)
        finally:
            for key in keys:
                self._awaited.pop(key, None)
        said = {agent_id: future.result() for agent_id, future in waiting.items() if future.done()}
        return change.model_copy(
            update={
                "applied": sum(each.result == "applied" for each in said.values()),
                "rejected": tuple(
                    Rejection(agent_id=agent_id, reason=each.reason or "no reason given")
                    for agent_id, each in said.items()
                    if each.result == "rejected"
                )[:100],
                "pending": len(waiting) - len(said),
            }
        )


def _scopes(agent: Configurable) -> list[str]:
    scopes = [f"agent:{agent.agent_id}", f"runtime:{agent.agent_id}"]
    return scopes if agent.agent_type is None else [f"type:{agent.agent_type}", *scopes]
