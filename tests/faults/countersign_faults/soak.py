"""Steady traffic and no faults: how the memory of each process grows, in MiB an hour."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .session import Outcome, session
from .traffic import Pace

SAMPLE_S = 5.0

#: About as much as two cores carry beside the watching.
PACE = Pace(agents_each=4, pause_s=0.05)


@dataclass
class Memory:
    """Resident memory in KiB of each process, at seconds since the first sample."""

    at: list[float] = field(default_factory=list)
    resident: dict[str, list[int]] = field(default_factory=dict)

    def add(self, at: float, resident: Mapping[str, int]) -> None:
        """One sample."""
        self.at.append(at)
        for name, size in resident.items():
            self.resident.setdefault(name, []).append(size)

    def slope(self, name: str) -> float:
        """MiB an hour over the second half: in the first, caches and pools fill."""
        half = len(self.at) // 2
        return slope(self.at[half:], self.resident[name][half:]) / 1024 * 3600


def slope(at: Sequence[float], values: Sequence[float]) -> float:
    """Of the straight line with the least squares, per second; 0 for fewer than two samples."""
    return statistics.linear_regression(at, values).slope if len(at) > 1 else 0.0


def resident_kib(pids: Mapping[str, int]) -> dict[str, int]:
    """What `ps` says each process has in memory; forked services count what they share, each."""
    given = ",".join(map(str, pids.values()))
    shown = subprocess.run(["ps", "-o", "pid=,rss=", "-p", given], capture_output=True, text=True, check=True).stdout
    sizes = {int(pid): int(size) for pid, size in (line.split() for line in shown.splitlines())}
    return {name: sizes[pid] for name, pid in pids.items()}


async def soak(folder: Path, *, seed: int, seconds: float, say: Callable[[str], None]) -> tuple[Outcome, Memory]:
    """So many seconds of traffic; what came of it is judged as after faults."""
    outcome, memory = Outcome(seed, seconds), Memory()
    async with session(folder, outcome, say, PACE) as here:
        first = time.monotonic()
        while (passed := time.monotonic() - first) < seconds:
            memory.add(passed, await asyncio.to_thread(resident_kib, here.system.pids()))
            if len(memory.at) % 6 == 1:
                sizes = ", ".join(f"{name} {sizes[-1] // 1024}" for name, sizes in memory.resident.items())
                here.tell(f"{len(here.traffic.accepted)} answers; MiB: {sizes}")
            await asyncio.sleep(SAMPLE_S)
    return outcome, memory
