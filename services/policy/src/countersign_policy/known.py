"""What this replica knows: the policy set in force, the catalogue, the agents, the stops; and the engine over it.

All of it is a copy. The policy set's version is compared in the transaction that writes a decision; agents, tools and
stops come by mirrors, which may lag: the executor's rows hold what must hold exactly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from prometheus_client import Gauge

from countersign_chassis import Mirror
from countersign_contracts.actions import Action
from countersign_contracts.catalogue import ToolRecord
from countersign_contracts.control import Stop
from countersign_contracts.errors import Unavailable
from countersign_contracts.fleet import AgentRecord

from .declarations import Declarations
from .engine import Engine, build_engine
from .examine import World
from .plan import compile_declared

T = TypeVar("T")

#: How often something is decided anew because the policy set changed meanwhile, before it is given back.
_ROUNDS = 5


class PolicyMoved(Exception):
    """The policy set changed between deciding and writing; what was decided is void."""


class Known:
    """The present state, and the world that pure code is handed."""

    def __init__(
        self,
        declarations: Declarations,
        agents: Mirror[AgentRecord],
        tools: Mirror[ToolRecord],
        stops: Mirror[Stop],
        production: Iterable[str],
        policies: Gauge,
    ) -> None:
        self._declarations = declarations
        self._agents = agents
        self._tools = tools
        self._production = frozenset(production)
        self._policies = policies
        self._policy_set = compile_declared(())
        self._version = self._policy_set.version
        self._engine: Engine | None = None
        self._stops: dict[str, dict[str, Stop]] = {}
        tools.subscribe(self._tool_changed)
        stops.subscribe(self._stop_changed)

    @property
    def version(self) -> str:
        """The version of the policy set that :meth:`world` decides by."""
        return self._version

    async def reload(self) -> None:
        """Take the policy set that is in force now."""
        loaded = await self._declarations.load()
        if loaded.version != self._version or self._engine is None:
            self._policy_set = compile_declared(loaded.items)
            self._version = loaded.version
            self._engine = None
            self._policies.set(len(self._policy_set.policies))

    async def under_one_version(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Repeat ``attempt`` with the new policies as often as it raises :class:`PolicyMoved`."""
        for _ in range(_ROUNDS):
            try:
                return await attempt()
            except PolicyMoved:
                await self.reload()
        raise Unavailable("the policies change faster than actions can be decided")

    def world(self) -> World:
        """Everything as it is known now."""
        if self._engine is None:
            self._engine = build_engine(self._policy_set, self._tools.values())
        return World(self._agents.get, self._in_force(), self._engine, self._production)

    def tools(self) -> dict[str, ToolRecord]:
        """The catalogue by name."""
        return {record.tool.name: record for record in self._tools.values()}

    async def reach(self, actions: Iterable[Action]) -> None:
        """Read through for agents and tools that the mirrors have not got yet.

        Raises :class:`~countersign_contracts.errors.Unavailable` if the buckets do not answer.
        """
        agents = {a.agent_id for a in actions if self._agents.get(a.agent_id) is None}
        tools = {a.tool for a in actions if self._behind(a)}
        if agents or tools:
            await asyncio.gather(
                *(self._agents.fetch(name) for name in agents), *(self._tools.fetch(name) for name in tools)
            )

    def _behind(self, action: Action) -> bool:
        record = self._tools.get(action.tool)
        return (record.version if record is not None else 0) < action.tool_version

    def _in_force(self) -> Mapping[str, Iterable[Stop]]:
        return {scope: stops.values() for scope, stops in self._stops.items()}

    def _tool_changed(self, name: str, record: ToolRecord) -> None:
        self._engine = None

    def _stop_changed(self, stop_id: str, stop: Stop) -> None:
        stops = self._stops.setdefault(stop.scope, {})
        if stop.lifted_at is None:
            stops[stop.stop_id] = stop
        else:
            stops.pop(stop.stop_id, None)
            if not stops:
                del self._stops[stop.scope]
