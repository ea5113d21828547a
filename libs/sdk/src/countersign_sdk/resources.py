"""What this process uses: from the clock of the process and from ``/proc``; None where the platform does not say.

Network traffic is not here: no platform counts it for a process, and its machine's would not be the agent's.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc/self")


@dataclass(frozen=True, slots=True)
class Usage:
    """Totals since the process began, in seconds and bytes; ``memory_bytes`` is resident now."""

    cpu_s: float
    memory_bytes: int | None
    disk_read_bytes: int | None
    disk_written_bytes: int | None


def usage(proc: Path = _PROC) -> Usage:
    """What the process has used up to now."""
    disk = _disk(proc)
    return Usage(time.process_time(), _memory(proc), disk.get("read_bytes"), disk.get("write_bytes"))


def since(before: Usage, after: Usage) -> dict[str, float | int]:
    """What was used between two looks, by the names of a metric report; what is not known is left out."""
    said: dict[str, float | int | None] = {
        "cpu_s": max(0.0, after.cpu_s - before.cpu_s),
        "memory_bytes": after.memory_bytes,
        "disk_read_bytes": _more(before.disk_read_bytes, after.disk_read_bytes),
        "disk_written_bytes": _more(before.disk_written_bytes, after.disk_written_bytes),
    }
    return {name: value for name, value in said.items() if value is not None}


def _more(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else max(0, after - before)


def _memory(proc: Path) -> int | None:
    try:
        return int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _disk(proc: Path) -> dict[str, int]:
    try:
        lines = (proc / "io").read_text().splitlines()
        return {name: int(value) for name, _, value in (line.partition(": ") for line in lines)}
    except (OSError, ValueError):
        return {}
