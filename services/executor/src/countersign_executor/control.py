"""The stops.

Set, lifted and listed by command, and the heartbeat that keeps this process's copy of them fresh.

A stop is acknowledged once no execution in its scope can start any more: its row is committed after every
claim made before it, this process's copy has it, and claims of other executors that do not know it have run
out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from countersign_contracts.commands import LiftStop, ListStops, SetStop
from countersign_contracts.commands import Stops as ListedStops
from countersign_contracts.control import Stop, StopLifted, StopSet
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now

from .announcer import Announcer
from .control_store import ControlStore
from .executions import Executions
from .stops import Stops

#: Clocks of two machines do not run at quite the same speed.
_LEASE_MARGIN_S = 0.05


class Control:
    """``lease_s``: how old an executor's reading of the stops may be when a call starts."""

    def __init__(
        self,
        store: ControlStore,
        executions: Executions,
        stops: Stops,
        announcer: Announcer,
        *,
        lease_s: float,
        log: Any,
    ) -> None:
        self._store = store
        self._executions = executions
        self._stops = stops
        self._announcer = announcer
        self._lease_s = lease_s
        self._log = log

    async def set_stop(self, command: SetStop) -> Stop:
        """In force when this returns. The same order by the same person is one stop while it is in force."""
        wanted = Stop(
            stop_id=prefixed("stp"),
            scope=command.scope,
            reason=command.reason,
            set_by=command.by,
            set_at=now(),
        )
        async with self._store.transaction() as connection:
            await self._store.lock_claims_out(connection)
            stop, new = await self._store.set_stop(connection, wanted)
            if new:
                await self._store.announce(connection, StopSet(stop=stop))
        self._stops.add(stop)
        # calls that passed their gate in this very turn of the loop write their request before the order is
        # acknowledged
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if await self._executions.others_live(self._lease_s + _LEASE_MARGIN_S):
            await asyncio.sleep(self._lease_s + _LEASE_MARGIN_S)
        self._log.warning("stop set", stop=stop.stop_id, scope=stop.scope, by=stop.set_by)
        await self._announcer.tell("stops")
        return stop

    async def lift_stop(self, command: LiftStop) -> Stop:
        """In force no more. Lifting it again answers the same; raises `not_found`."""
        async with self._store.transaction() as connection:
            stop, lifted = await self._store.lift_stop(connection, command.stop_id, command.by, now())
            if stop is None:
                raise CountersignError(f"there is no stop {command.stop_id}", code="not_found")
            if lifted:
                await self._store.announce(connection, StopLifted(stop=stop))
        self._stops.remove(stop.stop_id)
        if lifted:
            self._log.warning("stop lifted", stop=stop.stop_id, scope=stop.scope, by=stop.lifted_by)
        await self._announcer.tell("stops")
        return stop

    async def list_stops(self, command: ListStops) -> ListedStops:
        """Those in force, oldest first; then lifted ones, if asked for."""
        return ListedStops(items=tuple(await self._store.stops(lifted=command.lifted)))

    async def records(self) -> Mapping[str, Stop]:
        """Everything that is projected into bucket ``stops``.

        Lifted ones too, so that readers learn of it.
        """
        return {stop.stop_id: stop for stop in await self._store.stops(lifted=True)}
