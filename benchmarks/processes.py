"""What processes have used, by the scheduler's own accounting (Linux)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def family(root: int) -> set[int]:
    """A process and all that came of it and lives."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found, latest = {root}, {root}
    while latest:
        latest = {pid for pid, parent in parents.items() if parent in found} - found
        found |= latest
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time used so far, to the nanosecond."""
    return sum(int(text.split()[0]) for text in _of_threads(pids, "schedstat")) / 1e9


def woken(pids: Iterable[int]) -> int:
    """How often a thread gave up its core to wait, and was woken again."""
    return sum(int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for text in _of_threads(pids, "status"))


def _of_threads(pids: Iterable[int], file: str) -> list[str]:
    texts = []
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob(f"*/{file}"):
            with suppress(OSError):
                texts.append(path.read_text())
    return texts
