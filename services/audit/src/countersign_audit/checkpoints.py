"""Checkpoints: when the ledger's head is signed, and where the signature goes: file, table, bus, in this order.

Only the replica that writes signs, and only the head it committed itself: never what it reads back from the database.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from countersign_chassis import Service
from countersign_contracts.control import Checkpointed
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now, rfc3339
from countersign_ledger.checkpoint import Checkpoint

from .appender import Appender
from .checkpoint_file import CheckpointFile
from .measures import Measures
from .store import Head, LedgerStore


class Checkpoints:
    """Covers what was appended. ``last`` is the latest checkpoint there is, as far as this process knows."""

    def __init__(
        self,
        service: Service,
        store: LedgerStore,
        file: CheckpointFile,
        appender: Appender,
        measures: Measures,
        *,
        interval_s: float,
        entries: int,
    ) -> None:
        self._service = service
        self._store = store
        self._file = file
        self._appender = appender
        self._measures = measures
        self._interval_s = interval_s
        self._entries = entries
        self._due = asyncio.Event()
        self._turn = asyncio.Lock()
        self._unannounced: Checkpoint | None = None
        self._leading = False
        self.last: Checkpoint | None = None
        self.trouble: str | None = None
        appender.on_written = self._look

    def lead(self, last: Checkpoint | None) -> None:
        """This replica writes from now on; ``last`` is the latest checkpoint so far."""
        self._leading = True
        self._remember(last)

    def step_down(self) -> None:
        """Another replica writes, and signs."""
        self._leading = False
        self._unannounced = None
        self.trouble = None

    async def run(self) -> None:
        """Cover new entries soon after they came, for ever."""
        while True:
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._due.wait()
            except TimeoutError:
                pass
            self._due.clear()
            await self.cover()

    async def cover(self) -> None:
        """Sign the head if there is anything new below it besides the events of checkpoints themselves."""
        if self._leading and self._appender.last_event > self._last_seq():
            await self.sign()
        elif self._leading and self._unannounced is not None:
            await self._announce(self._unannounced)

    async def sign(self) -> Checkpoint:
        """A checkpoint for the head as it is now; the last one again if it is for that already."""
        async with self._turn:
            head = self._appender.head
            if self.last is not None and self.last.seq == head.seq:
                return self.last
            news = self._appender.last_event > self._last_seq()
            checkpoint = self._make(head)
            if head.seq == 0:
                return checkpoint
            try:
                await asyncio.to_thread(self._file.append, checkpoint)
            except CountersignError as error:
                self.trouble = error.detail
                raise
            self.trouble = None
            await self._store.keep(checkpoint)
            self._remember(checkpoint)
        if news:
            await self._announce(checkpoint)
        return checkpoint

    def why_not(self) -> str | None:
        """Why new entries are not covered; None while they are."""
        return self.trouble

    async def _announce(self, checkpoint: Checkpoint) -> None:
        self._unannounced = checkpoint
        try:
            await self._service.bus.publish(Checkpointed(seq=checkpoint.seq, checkpoint=_plain(checkpoint)))
        except CountersignError as error:
            self._service.log.warning("checkpoint not announced yet", seq=checkpoint.seq, reason=error.detail)
            return
        if self._unannounced is checkpoint:
            self._unannounced = None

    def _make(self, head: Head) -> Checkpoint:
        return Checkpoint.make(
            self._service.key,
            deployment=self._service.trust.deployment,
            seq=head.seq,
            hash=head.hash,
            time=rfc3339(now()),
        )

    def _look(self) -> None:
        if self._appender.head.seq - self._last_seq() >= self._entries:
            self._due.set()

    def _last_seq(self) -> int:
        return 0 if self.last is None else self.last.seq

    def _remember(self, checkpoint: Checkpoint | None) -> None:
        self.last = checkpoint
        if checkpoint is not None:
            self._measures.checkpoint_seq.set(checkpoint.seq)
            self._measures.checkpoint_at = datetime.fromisoformat(checkpoint.time)


def _plain(checkpoint: Checkpoint) -> dict[str, Any]:
    return dict(checkpoint.to_dict())
