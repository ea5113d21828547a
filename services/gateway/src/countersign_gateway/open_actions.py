"""How much is under way: actions that were accepted and have not ended, and the bounds beyond which none is taken.

Nothing is asked per action. Each gateway counts the rows once a second, and in between adds what it accepts and takes
off what it hears end. So a restart finds the right number, and with several gateways each is wrong by at most what the
others accept within a second.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge

from countersign_contracts.errors import CountersignError, Unavailable

from .lifecycle import Change
from .settings import Settings
from .store import Store

_RECOUNT_S = 1.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """At most so many at once: under way in all, under way of one agent, waiting for people of one agent."""

    everybody: int
    agent: int
    agent_held: int


@dataclass(slots=True)
class Tally:
    """A number for each agent, never below zero, and the sum."""

    of: dict[str, int] = field(default_factory=dict)
    total: int = 0

    def add(self, agent_id: str, n: int) -> None:
        """Add ``n``, which may be negative."""
        before = self.of.get(agent_id, 0)
        after = max(0, before + n)
        self.total += after - before
        if after:
            self.of[agent_id] = after
        else:
            self.of.pop(agent_id, None)


def exceeded(bounds: Bounds, *, working: int, of_agent: int, held_of_agent: int) -> str | None:
    """Which bound leaves no room for one more: `agent`, `agent_held`, `everybody`, or none.

    An agent's own bounds come first: it is told what it can do something about.
    """
    if of_agent >= bounds.agent:
        return "agent"
    if held_of_agent >= bounds.agent_held:
        return "agent_held"
    return "everybody" if working >= bounds.everybody else None


def retry_after_s(under_way: int, ended_per_s: float, longest_s: int) -> int:
    """When to come back, in seconds: when half of what is under way has ended, at the present pace."""
    if ended_per_s <= 0:
        return longest_s
    return max(1, min(longest_s, math.ceil(under_way / 2 / ended_per_s)))


def step(change: Change) -> tuple[str | None, str | None]:
    """From where to where a change moves an action: `working`, `held`, or out (None)."""
    match change.state:
        case "held":
            return "working", "held"
        case "granted" | "executing":
            return ("held", "working") if change.approval_id else ("working", "working")
        case "denied" | "expired" | "cancelled" if change.approval_id or change.state == "expired":
            return "held", None
    return "working", None


class OpenActions:
    """Keeps the numbers, refuses beyond the bounds, and lets whoever takes from the queue wait for room."""

    def __init__(self, settings: Settings, store: Store, by_state: Gauge, refused: Counter) -> None:
        self._bounds = Bounds(settings.max_open, settings.max_open_per_agent, settings.max_held_per_agent)
        self._longest_s = settings.come_back_max_s
        self._store = store
        self._by_state = by_state
        self._refused = refused
        self._tallies = {"working": Tally(), "held": Tally()}
        self._reserved = Tally()
        self._during: list[tuple[str, str, int]] | None = None
        self._counted = False
        self._ended = 0
        self._pace = 0.0
        self._looked_at = time.monotonic()
        self._freed = asyncio.Event()

    # --- accepting --------------------------------------------------------------------------------

    def check(self, agent_id: str) -> None:
        """Raises `overloaded` if the agent has as many as it may, `at_capacity` if there is no room for anybody.

        Both say when to come back.
        """
        bound = self.exceeded(agent_id)
        if bound is not None:
            self._refused.labels(bound).inc()
            raise self._refusal(agent_id, bound)

    def reserve(self, agent_id: str) -> None:
        """A place for an action about to be accepted, given up by :meth:`settle`; raises as :meth:`check`."""
        self.check(agent_id)
        self._reserved.add(agent_id, 1)

    def settle(self, agent_id: str, accepted: bool) -> None:
        """The reserved place is an action's now, or nobody's."""
        self._reserved.add(agent_id, -1)
        if accepted:
            self._add("working", agent_id, 1)
        else:
            self._freed.set()

    def came(self, agent_id: str) -> None:
        """An action was accepted that nobody asked for at the door: it is counted, whatever the bounds say."""
        self._add("working", agent_id, 1)

    def exceeded(self, agent_id: str) -> str | None:
        """The bound that leaves no room for one more of this agent, or None."""
        if not self._counted:
            raise Unavailable("the gateway is starting; try again in a second", retry_after_s=1)
        working, held = self._tallies["working"], self._tallies["held"]
        return exceeded(
            self._bounds,
            working=working.total + self._reserved.total,
            of_agent=working.of.get(agent_id, 0) + self._reserved.of.get(agent_id, 0),
            held_of_agent=held.of.get(agent_id, 0),
        )

    def _refusal(self, agent_id: str, bound: str) -> CountersignError:
        working = self._tallies["working"].total + self._reserved.total
        after = retry_after_s(working, self._pace, self._longest_s)
        if bound == "agent":
            detail = (
                f"agent {agent_id} has {self._bounds.agent} actions under way, which is as many as it may have;"
                f" send it again in {after} s, when some have ended"
            )
        elif bound == "agent_held":
            after = self._longest_s
            detail = (
                f"agent {agent_id} has {self._bounds.agent_held} actions waiting for approval, which is as many as it"
                " may have; have people answer some, or cancel some, then send it again"
            )
        else:
            detail = (
                f"{self._bounds.everybody} actions are under way, which is as many as are taken at once;"
                f" nothing was stored: send it again in {after} s"
            )
        code = "at_capacity" if bound == "everybody" else "overloaded"
        return CountersignError(detail, code=code, retry_after_s=after)

    async def room(self) -> int:
        """How many more may be accepted in all; waits until that is one at least."""
        while (left := self._bounds.everybody - self._tallies["working"].total - self._reserved.total) <= 0:
            self._freed.clear()
            await self._freed.wait()
        return left

    # --- counting ---------------------------------------------------------------------------------

    def moved(self, changes: Sequence[Change]) -> None:
        """What became of actions whose rows changed here."""
        for change in changes:
            before, after = step(change)
            if before == after:
                continue
            if before is not None:
                self._add(before, change.ref.agent_id, -1)
            if after is not None:
                self._add(after, change.ref.agent_id, 1)
            else:
                self._ended += 1
        self._freed.set()

    def _add(self, where: str, agent_id: str, n: int) -> None:
        self._tallies[where].add(agent_id, n)
        if self._during is not None:
            self._during.append((where, agent_id, n))

    async def recount(self) -> None:
        """Count the rows. What changes while the database counts is added: at worst it is counted twice for once."""
        self._during = []
        try:
            rows = await self._store.open_counts()
            during = self._during
        finally:
            self._during = None
        states = dict.fromkeys(("accepted", "held", "granted", "executing"), 0)
        tallies = {"working": Tally(), "held": Tally()}
        for agent_id, state, n in rows:
            states[state] = states.get(state, 0) + n
            tallies["held" if state == "held" else "working"].add(agent_id, n)
        for where, agent_id, n in during:
            tallies[where].add(agent_id, n)
        self._tallies = tallies
        self._counted = True
        for state, n in states.items():
            self._by_state.labels(state).set(n)
        at = time.monotonic()
        self._pace = (self._pace + self._ended / max(at - self._looked_at, 0.001)) / 2
        self._ended, self._looked_at = 0, at
        self._freed.set()

    async def run(self) -> None:
        """Count once a second for ever."""
        while True:
            await asyncio.sleep(_RECOUNT_S)
            await self.recount()
