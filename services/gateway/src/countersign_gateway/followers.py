"""Those who listen live at this process: what each has still to be told, bounded, and how many there may be.

What there is to hear is in :mod:`.following` (approvals) and :mod:`.following_agents`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson

from countersign_chassis.metrics import Metrics
from countersign_contracts.errors import CountersignError

#: The most that is kept for one follower, in bytes; the newest is kept whatever its size.
MOST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Lost:
    """Something was not told; how many, where that is known."""

    events: int | None
    reason: str

    def body(self) -> dict[str, Any]:
        """As it is told."""
        return {"kind": "lost", "events": self.events, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Ended:
    """There will be no more."""

    reason: str
    refused: bool

    def body(self) -> dict[str, Any]:
        """As it is told."""
        return {"kind": "end", "reason": self.reason}


class FollowerMetrics:
    """How many follow, how many were turned away, and what slow readers were not told; each by what is followed."""

    def __init__(self, metrics: Metrics) -> None:
        self.followers = metrics.gauge("countersign_followers", "Clients that follow live at this gateway", ["of"])
        self.refused = metrics.counter(
            "countersign_followers_refused", "Clients that could not follow: as many as may did already", ["of"]
        )
        self.untold = metrics.counter(
            "countersign_followers_untold", "Events that followers who read too slowly were not told", ["of"]
        )


def _uncounted() -> None:
    """Nobody counts."""


class Follower:
    """What one client has still to be told; bounded. ``again`` is what a client does that may have missed something."""

    def __init__(self, most: int, again: str = "read what is pending again") -> None:
        self._most = most
        self._again = again
        self._told: deque[bytes] = deque()
        self._bytes = 0
        self._lost = 0
        self._maybe_lost = False
        self._ended = False
        self._news = asyncio.Event()
        #: Called for each event that gave way.
        self.untold: Callable[[], None] = _uncounted

    def tell(self, said: bytes) -> None:
        """Add it; beyond the bound the oldest gives way, and is counted."""
        self._told.append(said)
        self._bytes += len(said)
        while len(self._told) > self._most or (self._bytes > MOST_BYTES and len(self._told) > 1):
            self._bytes -= len(self._told.popleft())
            self._lost += 1
            self.untold()
        self._news.set()

    def missed(self) -> None:
        """Something may have been missed; nobody can say how much."""
        self._maybe_lost = True
        self._news.set()

    def end(self) -> None:
        """There will be no more."""
        self._ended = True
        self._news.set()

    async def news(
        self, keep_alive_s: float, may_go_on: Callable[[], str | None]
    ) -> AsyncIterator[bytes | Lost | Ended | None]:
        """What was told, until the end; None after each ``keep_alive_s`` seconds without news.

        ``may_go_on`` says why it must end, if it must: it is asked before anything is told.
        """
        while True:
            self._news.clear()
            if (reason := may_go_on()) is not None:
                yield Ended(reason, refused=True)
                return
            if self._lost or self._maybe_lost:
                lost, self._lost, self._maybe_lost = self._lost, 0, False
                yield Lost(lost or None, self._again)
            if self._told:
                said = self._told.popleft()
                self._bytes -= len(said)
                yield said
                continue
            if self._ended:
                yield Ended("this gateway stops; connect again", refused=False)
                return
            try:
                async with asyncio.timeout(keep_alive_s):
                    await self._news.wait()
            except TimeoutError:
                yield None

    async def events(self, keep_alive_s: float, may_go_on: Callable[[], str | None]) -> AsyncIterator[bytes]:
        """The same as server-sent events; what is told is one already."""
        yield b": following; read what there is now\nretry: 2000\n\n"
        async for said in self.news(keep_alive_s, may_go_on):
            match said:
                case Lost() | Ended():
                    yield event(str(said.body()["kind"]), said.body())
                case None:
                    yield b": nothing new\n\n"
                case _:
                    yield said


F = TypeVar("F", bound=Follower)


class Followers(Generic[F]):
    """The followers of one kind of news in this process; ``what`` names it for people."""

    def __init__(self, what: str, most: int, metrics: FollowerMetrics) -> None:
        self._what = what
        self._most = most
        self._count = metrics.followers.labels(what)
        self._refused = metrics.refused.labels(what)
        self._untold = metrics.untold.labels(what)
        self._all: set[F] = set()
        self._released = False

    def __iter__(self) -> Iterator[F]:
        return iter(self._all)

    def __bool__(self) -> bool:
        return bool(self._all)

    def add(self, follower: F) -> F:
        """It is told everything from now on. Raises `at_capacity`, and `unavailable` while stopping."""
        if self._released:
            raise CountersignError("this gateway stops; connect again", code="unavailable")
        if len(self._all) >= self._most:
            self._refused.inc()
            raise CountersignError(
                f"{self._most} clients follow {self._what} here already; connect again in a minute",
                code="at_capacity",
                retry_after_s=60,
            )
        follower.untold = self._untold.inc
        self._all.add(follower)
        self._count.set(len(self._all))
        return follower

    def leave(self, follower: F) -> None:
        """It is told nothing any more."""
        self._all.discard(follower)
        self._count.set(len(self._all))

    async def release(self) -> None:
        """Nobody is told any more: the process stops."""
        self._released = True
        for follower in self._all:
            follower.end()

    async def missed(self) -> None:
        """All may have missed something."""
        for follower in self._all:
            follower.missed()


def event(kind: str, body: Any, id: str | None = None) -> bytes:
    """One server-sent event. ``body`` may be JSON already, which has no line feeds; an ``id`` must have none."""
    head = f"id: {id}\n" if id else ""
    return f"{head}event: {kind}\ndata: ".encode() + (body if isinstance(body, bytes) else orjson.dumps(body)) + b"\n\n"
