"""A closed-loop load: so many callers, each asking again as soon as it was answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

WARM_UP_S = 1.5


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured; times in milliseconds."""

    name: str
    in_flight: int
    count: int
    failures: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Completed calls a second."""
        return self.count / self.seconds


async def measure(name: str, in_flight: int, once: Callable[[], Awaitable[bool]], seconds: float) -> Result:
    """Run ``once`` from ``in_flight`` callers; it says whether it went as it should."""
    times: list[float] = []
    failures = 0
    start = time.perf_counter() + WARM_UP_S
    end = start + seconds

    async def caller() -> None:
        nonlocal failures
        while (began := time.perf_counter()) < end:
            well = await once()
            now = time.perf_counter()
            if began >= start and now <= end:
                times.append(now - began)
                failures += not well

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    times.sort()
    return Result(
        name,
        in_flight,
        len(times),
        failures,
        seconds,
        round(1000 * times[len(times) // 2], 2) if times else 0,
        round(1000 * times[min(len(times) - 1, int(len(times) * 0.99))], 2) if times else 0,
    )
