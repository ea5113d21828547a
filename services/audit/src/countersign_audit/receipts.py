"""Receipts: telling, as soon as it is so, that events are on record.

The executor starts nothing without one: of what it waits for, it is told unasked. Who asks waits here. The appender
tells of each commit; what it did not tell of (recorded before this process, or by another replica) is looked up.
Nothing is confirmed uncommitted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from time import monotonic

import asyncpg
from prometheus_client import Histogram

from countersign_contracts.commands import ConfirmOnRecord, Receipt
from countersign_contracts.errors import Unavailable

from .store import LedgerStore

#: How many ids are remembered at least; at a thousand actions a second that is half a minute of grants.
REMEMBERED = 32_768
#: What the writer has not committed after this long may have been recorded before it started: it is looked up.
LOOK_UP_AFTER_S = 0.05
#: Then seldom: the writer tells of what it records.
LOOK_UP_AGAIN_S = 1.0
#: A replica that stands by hears nothing, so it looks.
STANDBY_LOOK_UP_S = 0.02


class _Asked:
    """What one caller still waits for."""

    __slots__ = ("changed", "missing")

    def __init__(self, missing: set[str]) -> None:
        self.missing = missing
        self.changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, event_id: str) -> None:
        self.missing.discard(event_id)
        if not self.missing and not self.changed.done():
            self.changed.set_result(None)


class Receipts:
    """Who waits for which event."""

    def __init__(
        self, store: LedgerStore, leading: Callable[[], bool], tell: Callable[[Receipt], None], duration: Histogram
    ) -> None:
        self._store = store
        self._leading = leading
        self._tell = tell
        self._duration = duration
        self._head = 0
        self._young: set[str] = set()
        self._old: set[str] = set()
        self._waiting: dict[str, list[_Asked]] = {}

    def recorded(self, event_ids: Iterable[str], head: int, awaited: Sequence[str] = ()) -> None:
        """These were just committed; ``awaited``: those of them that an executor waits for."""
        self._head = head
        if awaited:
            self._tell(Receipt(event_ids=tuple(awaited), head=head))
        for event_id in event_ids:
            self._young.add(event_id)
            for asked in self._waiting.pop(event_id, ()):
                asked.settle(event_id)
        if len(self._young) >= REMEMBERED:
            self._old, self._young = self._young, set()

    async def confirm(self, command: ConfirmOnRecord) -> Receipt:
        """Answer once all are on record, or with those that are when ``wait_s`` has passed.

        Raises :class:`Unavailable` where some are not known to be and the ledger cannot be read.
        """
        began = monotonic()
        missing = {i for i in command.event_ids if i not in self._young and i not in self._old}
        if missing:
            missing = await self._wait(missing, began + command.wait_s)
        self._duration.observe(monotonic() - began)
        return Receipt(event_ids=tuple(i for i in command.event_ids if i not in missing), head=self._head)

    async def _wait(self, missing: set[str], deadline: float) -> set[str]:
        asked = _Asked(missing)
        for event_id in missing:
            self._waiting.setdefault(event_id, []).append(asked)
        try:
            pause = LOOK_UP_AFTER_S if self._leading() else 0.0
            while True:
                await asyncio.wait([asked.changed], timeout=min(pause, max(0.0, deadline - monotonic())))
                if not asked.missing:
                    break
                await self._look_up(asked)
                if not asked.missing or monotonic() >= deadline:
                    break
                pause = LOOK_UP_AGAIN_S if self._leading() else STANDBY_LOOK_UP_S
        finally:
            for event_id in asked.missing:
                waiting = self._waiting.get(event_id, [])
                if asked in waiting:
                    waiting.remove(asked)
                if not waiting:
                    self._waiting.pop(event_id, None)
        return asked.missing

    async def _look_up(self, asked: _Asked) -> None:
        try:
            found, head = await self._store.on_record(asked.missing)
        except (
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            OSError,
            TimeoutError,
        ) as error:
            raise Unavailable(f"the ledger cannot be read: {str(error) or type(error).__name__}") from None
        self._head = max(self._head, head)
        for event_id in found:
            asked.settle(event_id)
