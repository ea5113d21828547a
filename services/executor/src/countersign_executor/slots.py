"""Bounds on the calls under way.

So many to one host, so many in all. A slow host holds up nobody but its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """Places for calls; waiting is first come, first served."""

    def __init__(self, total: int, per_host: int) -> None:
        self._total = asyncio.Semaphore(total)
        self._per_host = per_host
        self._hosts: dict[str, asyncio.Semaphore] = {}
        self.taken = 0

    @asynccontextmanager
    async def one(self, host: str) -> AsyncIterator[None]:
        """A place for one call to ``host``. Hosts come from the catalogue, so there are few."""
        async with self._hosts.setdefault(host, asyncio.Semaphore(self._per_host)), self._total:
            self.taken += 1
            try:
                yield
            finally:
                self.taken -= 1
