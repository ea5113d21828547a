"""Callers that wait for an action's outcome in this process."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from countersign_contracts.actions import FINAL_STATES, ActionResult
from countersign_contracts.errors import CountersignError

#: Ended actions remembered, to pass over late news of them unread.
_ENDED_KEPT = 20_000
#: How long an outcome that another replica writes to its row is remembered, in seconds.
_FRESH_S = 30.0


class Waiters:
    """Futures by request id. Also knows outcomes that were heard but are not in the row yet, so that reads agree."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[str, set[asyncio.Future[ActionResult]]] = {}
        self._fresh: OrderedDict[str, tuple[float, ActionResult]] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._released = False

    @contextmanager
    def waiting(self, request_id: str) -> Iterator[asyncio.Future[ActionResult]]:
        """A future for the outcome; enter before the action is accepted, so that nothing is missed.

        It raises :class:`TimeoutError` when the process stops: the wait ends, and what is known is the answer. Raises
        `at_capacity` if callers of this process wait for as many as they may.
        """
        if len(self._waiting) >= self._limit and request_id not in self._waiting:
            raise CountersignError(
                f"{self._limit} actions are waited for here already; send it without waiting, or again in a second",
                code="at_capacity",
                retry_after_s=1,
            )
        future: asyncio.Future[ActionResult] = asyncio.get_running_loop().create_future()
        if self._released:
            _end(future)
        self._waiting.setdefault(request_id, set()).add(future)
        try:
            yield future
        finally:
            futures = self._waiting.get(request_id)
            if futures is not None:
                futures.discard(future)
                if not futures:
                    del self._waiting[request_id]

    async def release(self) -> None:
        """Nobody waits any more, now or later: the process stops."""
        self._released = True
        for futures in self._waiting.values():
            for future in futures:
                _end(future)

    def awaits(self, request_id: str) -> bool:
        """Whether anybody here waits for it."""
        return request_id in self._waiting

    def waited_for(self) -> list[str]:
        """Everything that is waited for here."""
        return list(self._waiting)

    def tell(self, result: ActionResult) -> None:
        """Hand an outcome to those who wait."""
        if result.state in FINAL_STATES:
            for future in self._waiting.get(result.request_id, ()):
                if not future.done():
                    future.set_result(result)

    def remember(self, results: list[ActionResult]) -> None:
        """Outcomes on their way into the rows, by this process or by another."""
        at = time.monotonic()
        for result in results:
            self._fresh[result.request_id] = (at, result)
            self._fresh.move_to_end(result.request_id)
        while self._fresh and next(iter(self._fresh.values()))[0] < at - _FRESH_S:
            self._fresh.popitem(last=False)

    def forget(self, results: list[ActionResult]) -> None:
        """They are in the rows now."""
        for result in results:
            self._fresh.pop(result.request_id, None)

    def note_ended(self, request_ids: Iterable[str]) -> None:
        """Their rows are final."""
        for request_id in request_ids:
            self._ended[request_id] = None
        while len(self._ended) > _ENDED_KEPT:
            self._ended.popitem(last=False)

    def has_ended(self, request_id: str | None) -> bool:
        """Whether the row is known to be final; news of how it got there changes nothing any more."""
        return request_id in self._ended

    def newer(self, result: ActionResult) -> ActionResult:
        """What is known of the action, if that is newer than its row: what has ended moves on only from `unknown`."""
        _, fresh = self._fresh.get(result.request_id, (0.0, result))
        if result.state in FINAL_STATES and (result.state != "unknown" or fresh.state not in ("succeeded", "failed")):
            return result
        return fresh


def _end(future: asyncio.Future[ActionResult]) -> None:
    if not future.done():
        future.set_exception(TimeoutError("the gateway stops"))
        future.exception()  # whoever never awaits it loses nothing
