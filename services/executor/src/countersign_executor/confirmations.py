"""Which grants are on record: audit tells every executor of those it commits, and is asked for what it did not tell of.

What it tells is plain NATS on a subject that nobody else may publish on: a question to each grant would cost both of
them a message in the middle of every action. It may be lost, so what is not heard of soon is asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from prometheus_client import Histogram

from countersign_chassis import Bus
from countersign_contracts.commands import ConfirmOnRecord, Receipt
from countersign_contracts.errors import CountersignError
from countersign_contracts.topology import RECORDED_SUBJECT

#: How many ids are remembered at least of grants that come here later, or to another executor.
REMEMBERED = 8192


class Confirmations:
    """Audit's word, grant by grant. ``patience_s``: how long it is waited for before audit is asked."""

    def __init__(self, bus: Bus, seconds: Histogram, log: Any, *, patience_s: float) -> None:
        self._bus = bus
        self._seconds = seconds
        self._log = log
        self._patience_s = patience_s
        self._waiting: dict[str, tuple[asyncio.Future[bool], float]] = {}
        self._young: set[str] = set()
        self._old: set[str] = set()
        self._asking: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen, beside the other executors: a grant may be anyone's."""
        await self._bus.hear(RECORDED_SUBJECT, self._hear)

    def expect(self, event_id: str) -> asyncio.Future[bool]:
        """Whether it is on record, once that is known; :meth:`await_word` must follow in the same turn."""
        if event_id in self._waiting:
            return self._waiting[event_id][0]
        word: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if event_id in self._young or event_id in self._old:
            word.set_result(True)
        else:
            self._waiting[event_id] = (word, time.perf_counter())
        return word

    def await_word(self, event_ids: Sequence[str], *, patiently: bool) -> None:
        """Ask for those of them that are not told of in time; at once where patience makes no sense."""
        if patiently and self._patience_s:
            asyncio.get_running_loop().call_later(self._patience_s, self._ask, event_ids)
        else:
            self._ask(event_ids)

    def _hear(self, word: bytes) -> None:
        try:
            recorded = Receipt.from_bytes(word).event_ids
        except CountersignError as error:
            self._log.error("audit's word could not be read; it is asked instead", error=error.detail)
            return
        for event_id in recorded:
            if event_id in self._waiting:
                self._settle(event_id, True)
            self._young.add(event_id)
        if len(self._young) >= REMEMBERED:
            self._old, self._young = self._young, set()

    def _ask(self, event_ids: Sequence[str]) -> None:
        if unheard := [event_id for event_id in event_ids if event_id in self._waiting]:
            task = asyncio.create_task(self._asked(unheard))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _asked(self, event_ids: Sequence[str]) -> None:
        confirmed: tuple[str, ...] = ()
        try:
            receipt: Receipt = await self._bus.ask(ConfirmOnRecord(event_ids=tuple(event_ids)))
            confirmed = receipt.event_ids
        except CountersignError as error:
            self._log.warning("audit does not confirm; nothing executes", error=error.detail, grants=len(event_ids))
        finally:
            for event_id in event_ids:
                if event_id in self._waiting:
                    self._settle(event_id, event_id in confirmed)

    def _settle(self, event_id: str, on_record: bool) -> None:
        word, since = self._waiting.pop(event_id)
        self._seconds.observe(time.perf_counter() - since)
        if not word.done():
            word.set_result(on_record)
