"""One run: a system under traffic, something done to it, then all is healed, awaited, and judged from the outside."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from countersign_ledger import TrustBundle

from .declarations import TOOLS
from .downstream import CountingDownstream
from .faults import Scene
from .history import History, entries_of
from .system import System
from .traffic import Pace, Traffic
from .validators import judge, unrecorded_ends

#: Accepted actions are sent again soon, so that a run need not wait for the usual ten seconds and more.
SETTINGS = {"redrive_after_s": "2", "redrive_max_s": "5"}

#: Until the first action after a fault must have succeeded, and everything must be ready again.
RECOVERY_S = 120.0

#: Until everything accepted must have ended, once all faults are healed.
END_S = 180.0

_OPEN = "&".join(f"state={state}" for state in ("accepted", "held", "granted", "executing"))


@dataclass
class Recovery:
    """One fault as it went, in seconds. None: not within ``RECOVERY_S``."""

    kind: str
    fault: str
    until_action_s: float | None
    """Until an action that was asked for afterwards had succeeded."""
    until_ready_s: float | None
    """Until every service said that it is ready, and actions succeeded."""


@dataclass
class Outcome:
    """What a run came to."""

    seed: int
    seconds: float
    history: History = field(default_factory=lambda: History(TOOLS))
    recoveries: list[Recovery] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    not_reached: list[str] = field(default_factory=list)
    until_ended_s: float = 0.0
    asked_in_vain: dict[str, int] = field(default_factory=dict)
    unrecorded_ends: int = 0

    @property
    def ended(self) -> Counter[str]:
        """Actions by their state at the end."""
        return Counter(self.history.states.values())


@dataclass
class Session:
    """What a run works with, while it lasts."""

    outcome: Outcome
    scene: Scene
    traffic: Traffic
    began: float
    say: Callable[[str], None]
    checkpoints: list[bytes] = field(default_factory=list)

    @property
    def system(self) -> System:
        """What the faults are done to."""
        return self.scene.system

    def tell(self, what: str) -> None:
        """A line of progress."""
        self.say(f"{time.monotonic() - self.began:6.1f} s  {what}")

    def look_at_checkpoints(self) -> None:
        """Keep the checkpoint file as it is now."""
        file = self.system.layout.checkpoints
        self.checkpoints.append(file.read_bytes() if file.exists() else b"")

    async def look(self) -> History:
        """What has happened so far, by what the API, the ledger and the downstream say now."""
        history, traffic, system = self.outcome.history, self.traffic, self.system
        history.wipes = self.scene.wipes
        history.accepted, history.told = traffic.accepted, traffic.told
        history.refused = traffic.first_refusals
        history.status_wanted, history.status = traffic.status_wanted, await traffic.status_now()
        before = ""
        while True:
            page = await system.ok("GET", f"/api/v1/actions?limit=200{f'&before={before}' if before else ''}")
            history.states |= {item["request_id"]: item["state"] for item in page["items"]}
            if not (before := page.get("next") or ""):
                break
        history.calls = self.scene.downstream.calls
        history.trust = TrustBundle.from_json(system.layout.trust.read_text())
        self.look_at_checkpoints()  # before the export: a later one would cover what the export cannot have
        history.checkpoints = list(self.checkpoints)
        history.export = await system.export()
        history.entries = entries_of(history.export)
        return history


@asynccontextmanager
async def session(
    folder: Path,
    outcome: Outcome,
    say: Callable[[str], None],
    pace: Pace | None = None,
    make: Callable[[Path, Mapping[str, str]], System] = System,
) -> AsyncIterator[Session]:
    """A system under traffic, as ``make`` makes it; afterwards ``outcome`` is complete."""
    began = time.monotonic()
    async with CountingDownstream() as downstream, make(folder, SETTINGS) as system:
        traffic = Traffic(system, downstream, outcome.seed, pace or Pace())
        await traffic.prepare()
        here = Session(outcome, Scene(system, downstream), traffic, began, say)
        here.tell("the system is ready, traffic begins")
        here.look_at_checkpoints()
        until = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(traffic.run(until))
            try:
                yield here
            finally:
                until.set()
        here.tell(f"traffic has ended: {len(traffic.accepted)} answers, {len(downstream.calls)} calls")
        healed = time.monotonic()
        try:
            await system.until_ready(RECOVERY_S)
        except TimeoutError as error:
            outcome.findings.append(f"at the end: {error}")
        await _until_all_ended(here)
        outcome.until_ended_s = time.monotonic() - healed
        await _observe(here)
    outcome.findings += judge(outcome.history)
    outcome.unrecorded_ends = unrecorded_ends(outcome.history)
    here.tell(f"{len(outcome.history.states)} actions, ended {outcome.until_ended_s:.1f} s after it")


async def _until_all_ended(here: Session) -> None:
    deadline, told = time.monotonic() + END_S, time.monotonic()
    while True:
        await here.traffic.lift_all()
        await here.traffic.vote_on_all()
        # in one look: between two, what an approver changed ends and another action takes its place
        page = await here.system.ok("GET", f"/api/v1/actions?{_OPEN}&limit=200")
        if not page["items"] or time.monotonic() > deadline:
            return
        if time.monotonic() - told > 5:
            told = time.monotonic()
            here.tell(f"still open: {dict(Counter(item['state'] for item in page['items']))}")
        await asyncio.sleep(0.2)


async def _observe(here: Session) -> None:
    """The ledger has an end a moment after the agent heard of it: look until it does, or nothing comes any more."""
    here.outcome.asked_in_vain = dict(here.traffic.refused)
    missing = -1
    for _ in range(10):
        left = unrecorded_ends(await here.look())
        if not left or left == missing:
            break
        missing = left
        await asyncio.sleep(1)
