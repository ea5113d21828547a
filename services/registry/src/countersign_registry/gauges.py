"""How many agents there are and how many events wait, as metrics: after each change, and now and then."""

from __future__ import annotations

import asyncio
from typing import get_args

from prometheus_client import Gauge

from countersign_contracts.fleet import AgentStatus

from .store import Store

_LEAST_S = 0.5
_MOST_S = 10.0


class Gauges:
    """One loop. ``changed`` is set by whoever changes something."""

    def __init__(self, store: Store, changed: asyncio.Event, agents: Gauge, outbox: Gauge) -> None:
        self._store = store
        self._changed = changed
        self._agents = agents
        self._outbox = outbox

    async def run(self) -> None:
        """Count, for ever."""
        while True:
            counts = await self._store.counts()
            for status in get_args(AgentStatus):
                self._agents.labels(status).set(counts.agents.get(status, 0))
            self._outbox.set(counts.outbox)
            await asyncio.sleep(_LEAST_S)
            try:
                async with asyncio.timeout(_MOST_S):
                    await self._changed.wait()
            except TimeoutError:
                continue
            self._changed.clear()
