"""This process's pulse: it shows that it lives and reads the stops, together and often.

Two things hang on how old the last beat is. Others take over this process's claims once it was silent for the owner
timeout; and a stop that another executor set may be unknown here for no longer than the lease. So no call starts on a
beat older than the lease (see :mod:`.calling`), and whoever sets a stop waits that long while others live.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

from .control_store import ControlStore
from .executions import Executions
from .stops import Stops


class Pulse:
    """``stops`` is the copy it keeps up to date; ``seldom`` is run every ``seldom_s`` beside it."""

    def __init__(
        self,
        executions: Executions,
        store: ControlStore,
        stops: Stops,
        seldom: Callable[[], Awaitable[None]],
        *,
        interval_s: float,
        seldom_s: float = 10.0,
    ) -> None:
        self._executions = executions
        self._store = store
        self._stops = stops
        self._seldom = seldom
        self._interval_s = interval_s
        self._seldom_s = seldom_s
        self._beat_at = -math.inf
        self._beating: asyncio.Task[None] | None = None

    def age_s(self) -> float:
        """Seconds since the last beat began."""
        return asyncio.get_running_loop().time() - self._beat_at

    async def beat(self) -> None:
        """Beat now; those who ask meanwhile share it. Raises what the database raises when it is away."""
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat())
            self._beating.add_done_callback(self._beaten)
        await asyncio.shield(self._beating)

    async def run(self) -> None:
        """Beat for ever."""
        loop = asyncio.get_running_loop()
        next_seldom = -math.inf
        while True:
            await self.beat()
            if loop.time() >= next_seldom:
                next_seldom = loop.time() + self._seldom_s
                await self._seldom()
            await asyncio.sleep(self._interval_s)

    async def _beat(self) -> None:
        began = asyncio.get_running_loop().time()
        # in this order: whoever sets a stop and finds nobody alive knows that the next reading will see it
        await self._executions.show_life()
        while True:
            generation = self._stops.generation
            if self._stops.replace(await self._store.stops(lifted=False), generation):
                break
        self._beat_at = began

    def _beaten(self, task: asyncio.Task[Any]) -> None:
        self._beating = None
        if not task.cancelled():
            # seen by those who wait for it; without any, the next beat tells
            task.exception()
