"""Which numbers of a sequence are missing, moved or repeated, from the order in which they came.

The input is held as runs of consecutive numbers, so a sound sequence of any length takes the memory of one.
Where several explanations are possible, that one is chosen which moves the fewest numbers. Not here: what
the numbers stand for.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

MAX_RUNS: Final = 1000


class Span(NamedTuple):
    """The numbers from `first` to `last`, both included."""

    first: int
    last: int


class Moved(NamedTuple):
    """Numbers that came out of order, right after `after` (None: at the very beginning)."""

    span: Span
    after: int | None


@dataclass(frozen=True, slots=True)
class Disorder:
    """What is wrong with a sequence: each list in ascending order."""

    missing: list[Span] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    repeated: list[Span] = field(default_factory=list)


class Sequence:
    """Numbers as they come. `runs` holds the first `MAX_RUNS` runs, `breaks` counts how often one ended."""

    __slots__ = ("breaks", "highest", "last", "lowest", "runs")

    def __init__(self) -> None:
        self.runs: list[Span] = []
        self.breaks = 0
        self.last: int | None = None
        self.lowest: int | None = None
        self.highest: int | None = None

    def add(self, number: int) -> bool:
        """Take the next number; True if it continues the one before, or is the first."""
        last, self.last = self.last, number
        if last is None or self.lowest is None or self.highest is None:
            self.runs.append(Span(number, number))
            self.lowest = self.highest = number
            return True
        self.highest = max(number, self.highest)
        if number == last + 1:
            if self.breaks < MAX_RUNS:
                self.runs[-1] = Span(self.runs[-1].first, number)
            return True
        self.lowest = min(number, self.lowest)
        self.breaks += 1
        if self.breaks < MAX_RUNS:
            self.runs.append(Span(number, number))
        return False

    @property
    def too_broken(self) -> bool:
        """Whether there are more runs than are kept, so that `disorder` would be guessing."""
        return self.breaks >= MAX_RUNS

    def disorder(self, first: int, last: int) -> Disorder:
        """Compare with the whole sequence from `first` to `last`."""
        runs = [Moved(run, self.runs[i - 1].last if i else None) for i, run in enumerate(self.runs)]
        pieces, covered, repeated = _first_occurrences(runs)
        moved = _moved(pieces)
        if repeated and moved:  # which of two was the copy is open: take the reading that moves less
            backwards, _, _ = _first_occurrences(reversed(runs))
            moved = min(moved, _moved(backwards[::-1]), key=_size)
        return Disorder(
            missing=subtract(Span(first, last), covered),
            moved=_joined([part for piece in moved for part in _parts(piece, repeated)]),
            repeated=_union(repeated),
        )


def subtract(span: Span, others: Iterable[Span]) -> list[Span]:
    """The parts of `span` that are in none of the `others`, in ascending order."""
    parts = []
    start = span.first
    for other in sorted(others):
        if other.last < start:
            continue
        if other.first > span.last:
            break
        if other.first > start:
            parts.append(Span(start, other.first - 1))
        start = other.last + 1
    if start <= span.last:
        parts.append(Span(start, span.last))
    return parts


def _first_occurrences(runs: Iterable[Moved]) -> tuple[list[Moved], list[Span], list[Span]]:
    """The runs without what an earlier one held; the numbers there are; and those that were left out."""
    pieces: list[Moved] = []
    covered: list[Span] = []
    repeated: list[Span] = []
    for run in runs:
        fresh = _parts(run, covered)
        repeated += subtract(run.span, [part.span for part in fresh])
        pieces += fresh
        for part in fresh:
            insort(covered, part.span)
    return pieces, covered, repeated


def _parts(piece: Moved, without: Iterable[Span]) -> list[Moved]:
    """What is left of the piece; a part from its middle came after the number before it."""
    return [
        Moved(span, piece.after if span.first == piece.span.first else span.first - 1)
        for span in subtract(piece.span, without)
    ]


def _moved(pieces: list[Moved]) -> list[Moved]:
    in_place = _heaviest_ascending([piece.span for piece in pieces])
    return [piece for i, piece in enumerate(pieces) if i not in in_place]


def _size(pieces: list[Moved]) -> int:
    return sum(span.last - span.first + 1 for span, _ in pieces)


def _union(spans: Iterable[Span]) -> list[Span]:
    """The same numbers in the fewest spans, in ascending order."""
    result: list[Span] = []
    for span in sorted(spans):
        if result and span.first <= result[-1].last + 1:
            result[-1] = Span(result[-1].first, max(span.last, result[-1].last))
        else:
            result.append(span)
    return result


def _heaviest_ascending(spans: list[Span]) -> set[int]:
    """Indices of the disjoint spans that may stay in place so that the fewest numbers have to move."""
    weights: list[int] = []
    before: list[int | None] = []
    for i, span in enumerate(spans):
        weight, best = 0, None
        for j in range(i):
            if spans[j].last < span.first and weights[j] > weight:
                weight, best = weights[j], j
        weights.append(weight + span.last - span.first + 1)
        before.append(best)
    kept: set[int] = set()
    at = max(range(len(spans)), key=weights.__getitem__) if spans else None
    while at is not None:
        kept.add(at)
        at = before[at]
    return kept


def _joined(moved: list[Moved]) -> list[Moved]:
    """In ascending order. Adjacent pieces become one, placed where the first of them came; `moved` is in that order."""
    result: list[tuple[Span, int]] = []
    for order, piece in sorted(enumerate(moved), key=lambda numbered: numbered[1].span):
        if result and result[-1][0].last + 1 == piece.span.first:
            span, earlier = result[-1]
            result[-1] = (Span(span.first, piece.span.last), min(order, earlier))
        else:
            result.append((piece.span, order))
    return [Moved(span, moved[order].after) for span, order in result]
