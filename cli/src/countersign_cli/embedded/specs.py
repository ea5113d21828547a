"""What a supervisor is given to run, and what it tells while running: plain data, no processes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

Probe = Callable[[], bool]
"""Answers at once (within half a second) whether a child is ready; it does not raise."""


def at_once() -> bool:
    """The probe of a child that is ready as soon as it runs."""
    return True


@dataclass(frozen=True)
class RestartPolicy:
    """When a child that died is started again: after a delay that doubles until it stays healthy."""

    first_seconds: float = 0.1
    ceiling_seconds: float = 5.0
    healthy_seconds: float = 10.0
    """A child that was ready for this long before it died is started again as if it had never failed."""
    starting_tries: int = 3
    """So many deaths in a row while the whole system first starts, and the start fails."""

    def delay(self, failures: int) -> float:
        """Seconds to wait after this many deaths in a row (at least one)."""
        # The exponent is bounded because a service may fail for weeks.
        return min(self.ceiling_seconds, self.first_seconds * 2.0 ** min(failures - 1, 30))


@dataclass(frozen=True)
class Service:
    """A Python function in a forked process of its own; it runs until it is told to stop (SIGTERM)."""

    name: str
    target: Callable[[], int]
    """Runs in the child; returns the exit code. An `EmbeddedError` it raises is shown to people as it is, and ends a
    start at once; a `MayPass` only when it is raised at every try."""
    after: tuple[str, ...] = ()
    """Names of what must be ready (a step: finished) before this starts. It stops before they do."""
    ready: Probe = at_once
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    stop_seconds: float = 10.0
    """How long it may take to stop before it is killed."""


@dataclass(frozen=True)
class Step:
    """A Python function in a forked process; it must end with exit code 0 before those `after` it start."""

    name: str
    target: Callable[[], int]
    after: tuple[str, ...] = ()
    again: bool = False
    """It runs again each time one of those `after` which it runs has come back: what it made there may be gone."""
    terminal: bool = False
    """It prints to the terminal; otherwise into its log file."""
    stop_seconds: float = 10.0


@dataclass(frozen=True)
class Program:
    """An executable in a process of its own."""

    name: str
    argv: Sequence[str]
    """`argv[0]` is the path of the executable."""
    env: Mapping[str, str] = field(default_factory=dict)
    """The whole environment of the program."""
    preexec: Callable[[], None] | None = None
    """Runs in the child just before the executable. An `EmbeddedError` it raises is shown to people."""
    after: tuple[str, ...] = ()
    ready: Probe = at_once
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals | None = None
    """Sent by the kernel (Linux) when the supervisor has died, where it is not to be the stop signal: one on which the
    program first waits for those that use it."""
    stop_seconds: float = 10.0


Spec = Service | Step | Program


class EventKind(StrEnum):
    """What happened to a child."""

    STARTED = "started"
    READY = "ready"
    FINISHED = "finished"
    """A step ended with exit code 0."""
    DIED = "died"
    """It ended by itself or was killed, and nobody had asked it to stop."""
    RESTARTING = "restarting"
    STOPPED = "stopped"
    """It ended because it was asked to."""


@dataclass(frozen=True)
class Event:
    """One thing that happened to one child, for people and for `run.json`."""

    kind: EventKind
    name: str
    pid: int | None
    detail: str = ""
    """How it died (`exit code 3`, `SIGKILL`) and why, or in how many seconds it is started again."""


def check_specs(specs: Sequence[Spec]) -> dict[str, frozenset[str]]:
    """All that each spec is after, directly and through others.

    Raises:
        ValueError: a name twice, an unknown name, or a circle.
    """
    direct = {spec.name: spec.after for spec in specs}
    if len(direct) != len(specs):
        raise ValueError(f"two specs of one name among {[spec.name for spec in specs]}")

    def collect(name: str, path: tuple[str, ...]) -> frozenset[str]:
        if name in path:
            raise ValueError(f"specs wait for each other: {' -> '.join((*path, name))}")
        if name not in direct:
            raise ValueError(f"{path[-1]} is after {name}, which nobody runs")
        further = [collect(other, (*path, name)) for other in direct[name]]
        return frozenset(direct[name]).union(*further)

    return {name: collect(name, ()) for name in direct}
