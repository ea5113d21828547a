"""Whoever was turned away at the channel's door, on record: of many alike in a short time one entry says how many."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter

from countersign_chassis import Bus
from countersign_contracts.control import ChannelRefused
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now


@dataclass
class _Alike:
    """What was refused for one reason since the last entry."""

    count: int
    reason: str
    identity: str | None


class Refusals:
    """The first of a kind is told at once; those that follow within the window as one, with their count."""

    def __init__(self, bus: Bus, window_s: float, log: Any, refused: Counter) -> None:
        self._bus = bus
        self._window_s = window_s
        self._log = log
        self._refused = refused
        self._quiet_until: dict[str, float] = {}
        self._kept: dict[str, _Alike] = {}

    async def tell(self, code: str, reason: str, identity: str | None = None) -> None:
        """Count a refusal, and have it recorded."""
        self._refused.labels(code).inc()
        self._log.warning("refused in Slack", code=code, reason=reason, identity=identity)
        alike = self._kept.setdefault(code, _Alike(0, reason, identity))
        alike.count += 1
        if alike.identity != identity:
            alike.identity = None
        if asyncio.get_running_loop().time() >= self._quiet_until.get(code, 0):
            await self._record(code)

    async def run(self) -> None:
        """Record what was kept back, for ever."""
        while True:
            await asyncio.sleep(self._window_s)
            await self.flush()

    async def flush(self) -> None:
        """Record what was kept back."""
        for code in list(self._kept):
            await self._record(code)

    async def _record(self, code: str) -> None:
        alike = self._kept.pop(code, None)
        if alike is None:
            return
        self._quiet_until[code] = asyncio.get_running_loop().time() + self._window_s
        event = ChannelRefused(
            refusal=prefixed("ref"),
            channel="slack",
            code=code,
            reason=alike.reason,
            identity=alike.identity[:256] if alike.identity else None,
            count=alike.count,
            at=now(),
        )
        try:
            await self._bus.publish(event)
        except CountersignError as error:
            self._log.warning("refusal not on record yet", error=error.detail)
            kept = self._kept.setdefault(code, _Alike(0, alike.reason, alike.identity))
            kept.count += alike.count
