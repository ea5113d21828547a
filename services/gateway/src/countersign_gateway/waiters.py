"""Callers that wait for an action's outcome in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from countersign_contracts.actions import FINAL_STATES, ActionResult


class Waiters:
    """Futures by request id. Also knows outcomes that were heard but are not in the row yet, so that reads agree."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[ActionResult]]] = {}
        self._fresh: dict[str, ActionResult] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @contextmanager
    def waiting(self, request_id: str) -> Iterator[asyncio.Future[ActionResult]]:
        """A future for the outcome; enter before the action is accepted, so that nothing is missed."""
        future: asyncio.Future[ActionResult] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(request_id, set()).add(future)
        try:
            yield future
        finally:
            futures = self._waiting.get(request_id)
            if futures is not None:
                futures.discard(future)
                if not futures:
                    del self._waiting[request_id]

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

    def newer(self, result: ActionResult) -> ActionResult:
        """What is known of the action, if that is newer than its row."""
        return self._fresh.get(result.request_id, result)
