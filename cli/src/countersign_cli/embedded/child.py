"""One child as the supervisor keeps it: its spec, whether it runs, what is due. It forks nothing."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from enum import Enum, auto

from countersign_cli.embedded.fork import Forked
from countersign_cli.embedded.specs import RestartPolicy, Spec, Step


class State(Enum):
    """Where a child is. WAITING has no process: it is not started yet, or died and is due again."""

    WAITING = auto()
    STARTING = auto()
    READY = auto()
    """A step is ready once it has ended well; it has no process then."""
    STOPPING = auto()
    ENDED = auto()


@dataclass
class Child:
    """Mutable; times are seconds of the monotonic clock."""

    spec: Spec
    state: State = State.WAITING
    forked: Forked | None = None
    due: float = 0.0
    """When a waiting child may start."""
    launched: float = 0.0
    ready_since: float | None = None
    failures: int = 0
    """Deaths in a row."""
    was_ready: bool = False
    exit_code: int | None = None
    """Of the process that last ended; negative: the signal."""
    fault: str = ""
    """What it last left for people to read."""

    @property
    def name(self) -> str:
        """The name of its spec."""
        return self.spec.name

    @property
    def pid(self) -> int | None:
        """Its process, while it has one."""
        return self.forked.pid if self.forked else None

    @property
    def policy(self) -> RestartPolicy:
        """When it is started again; a step never is."""
        return RestartPolicy(starting_tries=1) if isinstance(self.spec, Step) else self.spec.restart

    def note_launch(self, forked: Forked, now: float) -> None:
        """It has a process."""
        self.state, self.forked, self.launched, self.ready_since = State.STARTING, forked, now, None

    def note_ready(self, now: float) -> float:
        """It is ready; returns after how many seconds."""
        self.state, self.ready_since, self.was_ready = State.READY, now, True
        return now - self.launched

    def note_end(self, exit_code: int) -> str:
        """Its process has ended, for whatever reason; returns what it left for people to read."""
        fault = self.forked.take_fault() if self.forked else ""
        self.forked, self.exit_code = None, exit_code
        return fault

    def note_death(self, fault: str, now: float) -> None:
        """It ended unasked: counts it, and sets when it is due again."""
        healthy = self.ready_since is not None and now - self.ready_since >= self.policy.healthy_seconds
        self.failures = 1 if healthy else self.failures + 1
        self.due = now + self.policy.delay(self.failures)
        self.state, self.ready_since, self.fault = State.WAITING, None, fault

    def gave_up(self) -> bool:
        """Whether, never having been ready, it died too often, or for a reason that people must mend."""
        mend = bool(self.fault) and self.exit_code != os.EX_TEMPFAIL
        return not self.was_ready and (mend or self.failures >= self.policy.starting_tries)


def describe_ending(code: int) -> str:
    """`exit code 3`, or the name of the signal. Takes what `os.waitstatus_to_exitcode` returns."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
