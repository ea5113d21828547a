"""Callers that wait for an action's outcome in this process."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from countersign_contracts.actions import FINAL_STATES, ActionResult

#: Ended actions remembered, to pass over late news of them unread.
_ENDED_KEPT = 20_000


class Waiters:
    """Futures by request id. Also knows outcomes that were heard but are not in the row yet, so that reads agree."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[ActionResult]]] = {}
        self._fresh: dict[str, ActionResult] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._released = False

    def __len__(self) -> int:
        return len(self._waiting)

    @contextmanager
    def waiting(self, request_id: str) -> Iterator[asyncio.Future[ActionResult]]:
        """A future for the outcome; enter before the action is accepted, so that nothing is missed.

        It raises :class:`TimeoutError` when the process stops: the wait ends, and what is known is the answer.
        """
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

    def tell(self, result: ActionResult) -> bool:
        """Hand an outcome to those who wait; false if nobody does."""
        if result.state not in FINAL_STATES:
            return False
        futures = self._waiting.get(result.request_id, set())
        for future in futures:
            if not future.done():
                future.set_result(result)
        return bool(futures)

    def remember(self, results: list[ActionResult]) -> None:
        """Outcomes on their way into the rows."""
        self._fresh.update((result.request_id, result) for result in results)

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
        """What is known of the action, if that is newer than its row."""
        return self._fresh.get(result.request_id, result)


def _end(future: asyncio.Future[ActionResult]) -> None:
    if not future.done():
        future.set_exception(TimeoutError("the gateway stops"))
        future.exception()  # whoever never awaits it loses nothing
