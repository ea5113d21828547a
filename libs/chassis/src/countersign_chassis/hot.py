"""Connections for what every action runs: one plan for each statement, and at hand without a pool's formalities."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING

import asyncpg
from asyncpg.pool import PoolConnectionProxy

if TYPE_CHECKING:
    _Pool = asyncpg.Pool[asyncpg.Record]
    _Connection = PoolConnectionProxy[asyncpg.Record]

#: Of their sessions. One plan for good: a batch of one would be planned anew each time. By index: a plan is made while
#: the tables are empty, and would read them whole ever after.
SETTINGS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}


class HotConnections:
    """Taken from their pool once: to give one back costs a task and two turns of the loop each time.

    One that was lost, or whose work failed, goes back to the pool, which mends or replaces it. ``waited`` is told of
    every wait, in seconds.
    """

    def __init__(self, pool: _Pool, most: int, waited: Callable[[float], None]) -> None:
        self._pool = pool
        self._waited = waited
        self._room = asyncio.Semaphore(most)
        self._free: list[_Connection] = []

    def idle(self) -> int:
        """How many are open, and nobody works with them."""
        return self._pool.get_idle_size() + len(self._free)

    def one(self) -> Taken:
        """One of them, for an ``async with``."""
        return Taken(self)

    async def take(self) -> _Connection:
        """The one that was used last, while its caches are warm."""
        began = perf_counter()
        await self._room.acquire()
        try:
            while self._free:
                if not (connection := self._free.pop()).is_closed():
                    return connection
                await self._pool.release(connection)
            return await self._pool.acquire()
        except BaseException:
            self._room.release()
            raise
        finally:
            self._waited(perf_counter() - began)

    async def give_back(self, connection: _Connection, *, failed: bool) -> None:
        """After its work; of what failed the state may be anything."""
        try:
            if failed:
                await self._pool.release(connection)
            else:
                self._free.append(connection)
        finally:
            self._room.release()

    async def close(self) -> None:
        """Give all back that nobody works with."""
        while self._free:
            await self._pool.release(self._free.pop())


class Taken:
    """A connection while it is worked with."""

    __slots__ = ("_connection", "_of")

    def __init__(self, of: HotConnections) -> None:
        self._of = of

    async def __aenter__(self) -> _Connection:
        """Wait for one; raises what asyncpg raises if the server is away."""
        self._connection = await self._of.take()
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give it back."""
        await self._of.give_back(self._connection, failed=kind is not None)
