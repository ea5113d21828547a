"""Races between a stop and the calls in its scope, from the outside: does one start after the order's acknowledgement?

Each race has a session of its own, in which callers ask for one action after another until a person stops the session.
Several races run at a time, so that each has the others as its load, and nats-server may be killed all the while. When
a call started is what the executor says in the ledger, taken as its gate let the call pass; when an order was
acknowledged is when the person's client had read the answer. All on one machine, so by one clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from countersign_contracts.errors import CountersignError
from countersign_sdk import Agent

from .declarations import AGENTS
from .downstream import CountingDownstream
from .history import Call, Recorded, entries_of
from .system import NotAnswered, System
from .traffic import Traffic

#: How long into a race the order comes, at most; seconds.
_DELAY_S = 0.3

#: How long a race waits for its first call, while nats-server is killed again and again; seconds.
_FIRST_CALL_S = 20.0

#: How long the ledger may take until it tells of every call that arrived; seconds.
_TOLD_S = 20.0

#: How long an order may stay unanswered before the person gives it again; seconds.
_ORDER_S = 8.0


@dataclass
class Race:
    """One race. Times are unix seconds; ``acknowledged_at`` is of the order that was."""

    session: str
    ordered_at: float = 0.0
    acknowledged_at: float = 0.0
    unanswered: int = 0
    """Orders before it to which no answer came, or one that says that it is not known to be in force."""
    started: list[float] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)

    @property
    def untold(self) -> bool:
        """Whether more calls arrived than the ledger tells of."""
        return len(self.arrived) > len(self.started)

    @property
    def late_s(self) -> float | None:
        """How long after the acknowledgement the last call started: below zero if before; None if none started."""
        return max(self.started) - self.acknowledged_at if self.started else None


@dataclass
class Races:
    """``callers`` ask in each race, ``at_once`` races run together; nats-server is killed every ``kill_every_s``."""

    system: System
    downstream: CountingDownstream
    seed: int
    callers: int = 6
    at_once: int = 4
    kill_every_s: float | None = None
    kills: int = 0
    _agents: list[Agent] = field(default_factory=list)

    async def run(self, count: int, say: Callable[[str], None] = lambda _: None) -> list[Race]:
        """Run so many races; what each saw, in order."""
        await self._prepare()
        dice = random.Random(self.seed)
        waiting = [(number, dice.random() * _DELAY_S) for number in reversed(range(count))]
        races: list[Race] = []
        killing = asyncio.create_task(self._kill())
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self.at_once):
                    tasks.create_task(self._one_after_another(waiting, races, count, say))
        finally:
            killing.cancel()
            for agent in self._agents:
                await agent.__aexit__(None, None, None)
        await self.system.until_ready(30)
        await self._observe(races)
        return sorted(races, key=lambda race: race.session)

    async def _observe(self, races: Sequence[Race]) -> None:
        # the ledger has an end a moment after the agent heard of it
        deadline = time.monotonic() + _TOLD_S
        while True:
            fill_in(races, entries_of(await self.system.export()), self.downstream.calls)
            if not any(race.untold for race in races) or time.monotonic() > deadline:
                return
            await asyncio.sleep(0.2)

    async def _prepare(self) -> None:
        traffic = Traffic(self.system, self.downstream, self.seed)
        await traffic.prepare()
        for number, agent_id in enumerate(AGENTS):
            self._agents.append(await traffic.agent(agent_id, "http" if number % 2 else "nats").__aenter__())

    async def _kill(self) -> None:
        while self.kill_every_s is not None:
            known = len(self.downstream.calls)
            await asyncio.sleep(self.kill_every_s)
            while len(self.downstream.calls) == known:  # on a slow machine no call at all would come between two kills
                await asyncio.sleep(0.05)
            os.kill(await self.system.pid("nats"), signal.SIGKILL)
            self.kills += 1
            await self.system.until_ready(30)

    async def _one_after_another(
        self, waiting: list[tuple[int, float]], races: list[Race], count: int, say: Callable[[str], None]
    ) -> None:
        while waiting:
            number, delay_s = waiting.pop()
            races.append(await self._race(number, delay_s))
            if len(races) % 50 == 0:
                say(f"{len(races)} of {count} races, nats-server killed {self.kills} times")

    async def _race(self, number: int, delay_s: float) -> Race:
        race = Race(f"race-{number:05}")
        over, first = asyncio.Event(), asyncio.Event()
        callers = [asyncio.create_task(self._call(race, number, which, over, first)) for which in range(self.callers)]
        if number % 4:  # on a slow machine all stops would come before the first call, and say nothing
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(first.wait(), _FIRST_CALL_S)
        await asyncio.sleep(delay_s)
        await self._order(race)
        # what was accepted before goes on for a while, and the callers see that nothing passes any more
        over.set()
        await asyncio.gather(*callers)
        return race

    async def _call(self, race: Race, number: int, which: int, over: asyncio.Event, first: asyncio.Event) -> None:
        agent = self._agents[which % len(self._agents)]
        asked = 0
        while not over.is_set() or asked == 0:
            asked += 1
            try:
                result = await agent.call("look", {"n": number}, env="dev", session_id=race.session, wait_s=10)
            except CountersignError:
                await asyncio.sleep(0.01)  # nats-server is away
                continue
            if result.state == "succeeded":
                first.set()
            if result.state == "denied":
                await over.wait()

    async def _order(self, race: Race) -> None:
        body = {"scope": f"session:{race.session}", "reason": "a race"}
        while True:
            race.ordered_at = time.time()
            try:
                status, answer = await self.system.ask("POST", "/api/v1/stops", body, timeout_s=_ORDER_S)
            except NotAnswered:
                race.unanswered += 1
                await asyncio.sleep(0.05)
                continue
            race.acknowledged_at = time.time()
            assert status == 201, (status, answer)
            return


def fill_in(races: Sequence[Race], entries: Sequence[Recorded], calls: Sequence[Call]) -> None:
    """What started and what arrived, to the race it belongs to."""
    by_session = {race.session: race for race in races}
    for race in races:
        race.started, race.arrived = [], []
    session_of: dict[str, str] = {}
    for entry in entries:
        if entry.name == "actions.requested":
            action: Any = entry.body["action"]
            session_of[action["request_id"]] = action["session_id"]
        elif entry.name == "actions.executed" and (started := entry.body["execution"]["started_at"]):
            race = by_session[session_of[entry.body["action"]["request_id"]]]
            race.started.append(datetime.fromisoformat(started).timestamp())
    for call in calls:
        by_session[f"race-{int(call.path.rsplit('/', 1)[1]):05}"].arrived.append(call.at)


def breaches(races: Sequence[Race]) -> list[str]:
    """A line for each race in which a call started after the acknowledgement, and one if nothing was tried at all."""
    late = [
        f"{race.session}: a call started {race.late_s * 1000:.2f} ms after the order's acknowledgement"
        for race in races
        if race.late_s is not None and race.late_s > 0
    ]
    uneventful = sum(not race.started for race in races)
    if uneventful > len(races) / 2:
        late.append(f"in {uneventful} of {len(races)} races nothing started before the stop: they say nothing")
    unseen = [race.session for race in races if race.untold]
    return late + [f"{session}: more calls arrived than the ledger tells of" for session in unseen]
