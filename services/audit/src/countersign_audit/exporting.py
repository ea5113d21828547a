"""The export, page by page: each fits into one message of the bus, and none needs the ones before in memory.

The first page ends the export at a fresh checkpoint over the head, so that everything in it is covered by a
signature. A replica that stands by signs nothing: its exports end at the last checkpoint there is.
"""

from __future__ import annotations

from collections.abc import Sequence

from countersign_contracts.commands import ExportLedger, ExportPage
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now, rfc3339
from countersign_ledger.checkpoint import Checkpoint
from countersign_ledger.entry import Entry
from countersign_ledger.export import ExportHeader, encode_header, encode_item

from .checkpoints import Checkpoints
from .store import LedgerStore
from .writer import Writer

#: A reply may have 1 MiB. One entry at its largest (see ``arrival.MAX_BODY_BYTES``) makes a line of less than this.
MAX_PAGE_BYTES = 900_000
_MAX_ROWS = 1000
#: Bodies are written in base64, which makes 4 bytes of 3.
_MAX_BODIES_BYTES = MAX_PAGE_BYTES * 3 // 4


class Exporter:
    """Answers :class:`ExportLedger`."""

    def __init__(self, store: LedgerStore, checkpoints: Checkpoints, writer: Writer) -> None:
        self._store = store
        self._checkpoints = checkpoints
        self._writer = writer

    async def page(self, asked: ExportLedger) -> ExportPage:
        """A page. Raises :class:`CountersignError` for a range that the ledger does not have."""
        if asked.next is None:
            return await self._first_page(asked.first_seq)
        if asked.last_seq is None or not asked.first_seq <= asked.next <= asked.last_seq:
            raise CountersignError(
                "`next` and `last_seq` are to be those of the page before, and `first_seq` that of the first request",
                code="invalid",
            )
        return await self._page([], asked.next, asked.last_seq)

    async def _first_page(self, first_seq: int) -> ExportPage:
        head = await self._end()
        if first_seq > head.seq + 1:
            raise CountersignError(
                f"the ledger ends with entry {head.seq}; an export cannot begin at {first_seq}",
                code="invalid",
            )
        header = ExportHeader(
            deployment=head.deployment,
            first_seq=first_seq,
            last_seq=head.seq,
            exported_at=rfc3339(now()),
            head=head,
        )
        return await self._page([_line(encode_header(header))], first_seq, head.seq)

    async def _end(self) -> Checkpoint:
        if self._writer.leading:
            return await self._checkpoints.sign()
        if (last := await self._store.last_checkpoint()) is None:
            raise CountersignError("nothing is covered by a checkpoint yet; try again in a moment", code="unavailable")
        return last

    async def _page(self, lines: list[str], first: int, last: int) -> ExportPage:
        if first > last:
            return ExportPage(lines=tuple(lines), last_seq=last)
        entries = await self._store.entries(first, last, rows=_MAX_ROWS, body_bytes=_MAX_BODIES_BYTES)
        if not entries:
            # the export says so by itself: its verification finds what is missing
            return ExportPage(lines=tuple(lines), last_seq=last)
        checkpoints = {c.seq: c for c in await self._store.checkpoints(entries[0].seq, entries[-1].seq)}
        size = sum(_size(line) for line in lines)
        upto = None
        for entry in entries:
            group = _group(entry, checkpoints)
            size += sum(_size(line) for line in group)
            if size > MAX_PAGE_BYTES and upto is not None:
                break
            lines += group
            upto = entry.seq
        return ExportPage(
            lines=tuple(lines), next=upto + 1 if upto is not None and upto < last else None, last_seq=last
        )


def _group(entry: Entry, checkpoints: dict[int, Checkpoint]) -> Sequence[str]:
    lines = [_line(encode_item(entry))]
    if (checkpoint := checkpoints.get(entry.seq)) is not None:
        lines.append(_line(encode_item(checkpoint)))
    return lines


def _line(encoded: bytes) -> str:
    return encoded.decode().removesuffix("\n")


def _size(line: str) -> int:
    """What a line takes inside the reply: it is a JSON string there, so quotes and backslashes count twice."""
    return len(line.encode()) + line.count('"') + line.count("\\") + 3
