"""Whether every entry of an export is there, once and in its place, up to the last that is known to exist.

It looks at sequences alone; what an entry contains is not its matter. What is wrong is said at the end,
when the most likely single cause can be told: an entry that is missing here and turns up there was moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .report import FindingLog
from .sequence import Disorder, Sequence, Span, subtract

_MAX_KEPT: Final = 1000


@dataclass(slots=True)
class _Unreadable:
    """Lines in a row that cannot be read: where the first stands, and which entry could have stood there."""

    seq: int
    line: int
    reason: str
    count: int = 1

    @property
    def span(self) -> Span:
        return Span(self.seq, self.seq + self.count - 1)


class Completeness:
    """Takes what is seen line by line; `finish` adds what is wrong to `log`."""

    def __init__(self, log: FindingLog) -> None:
        self._log = log
        self._sequence = Sequence()
        self._first: int | None = None
        self._end = 0
        self._end_evidence = ""
        self._unreadable: list[_Unreadable] = []
        self._more_unreadable = 0
        self._misplaced: list[tuple[int, int, int]] = []

    def begin_at(self, seq: int) -> None:
        """The export says that this is its first entry."""
        self._first = seq

    def exists(self, seq: int, evidence: str) -> None:
        """`evidence`, a clause, shows that the ledger goes at least as far as entry `seq`."""
        if seq >= self._end:
            self._end, self._end_evidence = seq, evidence

    def take(self, seq: int) -> bool:
        """The next entry is `seq`; True if it follows the one before, or is the first."""
        return self._sequence.add(seq)

    def cannot_read(self, line: int, reason: str) -> None:
        """This line cannot be read, so it is open what stood there."""
        if self._unreadable:
            last = self._unreadable[-1]
            if last.line + last.count == line:
                last.count += 1
                return
        if len(self._unreadable) == _MAX_KEPT:
            self._more_unreadable += 1
            return
        self._unreadable.append(_Unreadable(self.next_seq, line, reason))

    def misplaced(self, line: int, seq: int) -> None:
        """In this line stands a checkpoint for entry `seq`, which is not the entry before it."""
        if len(self._misplaced) < _MAX_KEPT:
            self._misplaced.append((line, seq, self.next_seq - 1))

    @property
    def next_seq(self) -> int:
        """The entry that should come next."""
        last = self._sequence.last
        return (self._first or 1) if last is None else last + 1

    @property
    def last(self) -> int | None:
        """The entry that came last."""
        return self._sequence.last

    @property
    def lowest(self) -> int | None:
        """The lowest entry there is."""
        return self._sequence.lowest

    @property
    def highest(self) -> int | None:
        """The highest entry there is."""
        return self._sequence.highest

    def finish(self) -> None:
        """Add to the log what is missing, moved, repeated or unreadable."""
        sequence = self._sequence
        start = self._first or sequence.lowest or 1
        if sequence.lowest is not None:
            start = min(start, sequence.lowest)
        highest = start - 1 if sequence.highest is None else sequence.highest
        disorder = Disorder() if sequence.too_broken else sequence.disorder(start, highest)
        tail = Span(highest + 1, self._end)
        self._report_unreadable([*disorder.missing, tail])
        unreadable = [lines.span for lines in self._unreadable]
        if sequence.too_broken:
            self._report_too_broken()
        for span in disorder.missing:
            for part in subtract(span, unreadable):
                place = f"before entry {part.last + 1}"
                if part.first > start:
                    place = f"between entries {part.first - 1} and {part.last + 1}"
                self._log.add("missing", part.first, f"{_entries(part)} missing {place}: deleted after being recorded.")
        for moved in disorder.moved:
            where = "at the very beginning" if moved.after is None else f"after entry {moved.after}"
            verb = "stands" if moved.span.first == moved.span.last else "stand"
            self._log.add("reordered", moved.span.first, f"{_name(moved.span)} {verb} {where}: out of order.")
        for span in disorder.repeated:
            self._log.add("duplicate", span.first, f"{_entries(span)} there more than once.")
        if rest := subtract(tail, unreadable):
            last = f"with entry {highest}" if highest >= start else "before its first entry"
            self._log.add(
                "truncated",
                rest[0].first,
                f"The export ends {last}, but {self._end_evidence}: what was recorded from entry "
                f"{rest[0].first} on was cut off.",
            )
        if not (disorder.missing or disorder.moved or disorder.repeated or sequence.breaks or self._unreadable):
            self._report_misplaced(highest)

    def _report_unreadable(self, absent: list[Span]) -> None:
        for lines in self._unreadable:
            more = f" Nor can the {lines.count - 1} after it." if lines.count > 1 else ""
            if any(span.first <= lines.seq <= span.last for span in absent):
                seq: int | None = lines.seq
                place = f"where entry {lines.seq} should stand"
            else:
                seq = lines.seq - 1 or None
                place = f"after entry {seq}" if seq else "before the first entry"
            self._log.add("malformed", seq, f"Line {lines.line}, {place}, cannot be read: {lines.reason}.{more}")
        if self._more_unreadable:
            self._log.add("malformed", None, f"{self._more_unreadable} more lines cannot be read.")

    def _report_too_broken(self) -> None:
        before, after = self._sequence.runs[:2]
        self._log.add(
            "reordered",
            before.last + 1,
            f"The order of the entries is broken in {self._sequence.breaks} places, first where entry "
            f"{after.first} follows entry {before.last}: too many to tell what is missing or moved.",
        )

    def _report_misplaced(self, highest: int) -> None:
        """Only where the entries are all in order: elsewhere it follows from what was said already."""
        for line, seq, after in self._misplaced:
            if seq <= highest:
                self._log.add(
                    "checkpoint-misplaced",
                    seq,
                    f"The checkpoint in line {line} is for entry {seq}, but stands after entry {after}.",
                )


def _name(span: Span) -> str:
    return f"Entry {span.first}" if span.first == span.last else f"Entries {span.first} to {span.last}"


def _entries(span: Span) -> str:
    return f"{_name(span)} {'is' if span.first == span.last else 'are'}"
