"""What is missing, moved and repeated, against a slow and obvious reading of the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_ledger.sequence import MAX_RUNS, Moved, Sequence, Span, subtract


def taken(numbers: Iterable[int]) -> Sequence:
    sequence = Sequence()
    for number in numbers:
        sequence.add(number)
    return sequence


def numbers_of(spans: Iterable[Span]) -> list[int]:
    return [number for span in spans for number in range(span.first, span.last + 1)]


@pytest.mark.parametrize(
    ("numbers", "missing", "moved", "repeated"),
    [
        ([1, 2, 3, 4, 5, 6], [], [], []),
        ([], [(1, 6)], [], []),
        ([1, 2, 5, 6], [(3, 4)], [], []),
        ([3, 5], [(1, 2), (4, 4), (6, 6)], [], []),
        ([1, 2, 4, 3, 5, 6], [], [((3, 3), 4)], []),
        ([1, 6, 2, 3, 4, 5], [], [((6, 6), 1)], []),
        ([2, 3, 4, 5, 6, 1], [], [((1, 1), 6)], []),
        ([3, 4, 1, 2, 5, 6], [], [((1, 2), 4)], []),
        ([1, 2, 3, 3, 4, 5, 6], [], [], [(3, 3)]),
        ([1, 2, 3, 4, 5, 6, 2, 3], [], [], [(2, 3)]),
        ([1, 5, 2, 3, 4, 5, 6], [], [], [(5, 5)]),
        ([1, 2, 5, 4, 5, 6], [(3, 3)], [], [(5, 5)]),
        ([1, 5, 6, 2, 3, 4, 6], [], [((5, 5), 1)], [(6, 6)]),
        ([1, 4, 5, 6, 3, 2], [], [((2, 3), 6)], []),
        ([1, 4, 5, 6, 2, 3, 2], [], [((3, 3), 2)], [(2, 2)]),
        ([1, 3, 6, 2], [(4, 5)], [((2, 2), 6)], []),
    ],
)
def test_the_fewest_numbers_are_called_moved(
    numbers: list[int],
    missing: list[tuple[int, int]],
    moved: list[tuple[tuple[int, int], int]],
    repeated: list[tuple[int, int]],
) -> None:
    disorder = taken(numbers).disorder(1, 6)
    assert disorder.missing == missing
    assert disorder.moved == moved == [Moved(Span(*span), after) for span, after in moved]
    assert disorder.repeated == repeated


@given(st.lists(st.integers(1, 9), max_size=12))
def test_missing_and_repeated_are_what_counting_gives(numbers: list[int]) -> None:
    disorder = taken(numbers).disorder(1, 9)
    count = Counter(numbers)
    assert numbers_of(disorder.missing) == [n for n in range(1, 10) if count[n] == 0]
    assert numbers_of(disorder.repeated) == [n for n in range(1, 10) if count[n] > 1]


@given(st.lists(st.integers(1, 7), unique=True, max_size=7))
def test_no_smaller_set_of_numbers_explains_the_disorder(numbers: list[int]) -> None:
    moved = set(numbers_of(piece.span for piece in taken(numbers).disorder(1, 7).moved))
    rest = [n for n in numbers if n not in moved]
    assert rest == sorted(rest)
    for fewer in combinations(numbers, max(len(moved) - 1, 0)):
        rest = [n for n in numbers if n not in fewer]
        assert not moved or rest != sorted(rest)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_it_knows_the_ends_and_where_it_broke(numbers: list[int]) -> None:
    sequence = Sequence()
    follows = [sequence.add(number) for number in numbers]
    assert follows == [True, *(b == a + 1 for a, b in pairwise(numbers))]
    assert (sequence.lowest, sequence.highest, sequence.last) == (min(numbers), max(numbers), numbers[-1])
    assert sequence.breaks == follows.count(False)


def test_a_sound_sequence_takes_one_run_and_a_broken_one_a_bounded_number() -> None:
    sound = taken(range(1, 100_000))
    assert sound.runs == [Span(1, 99_999)] and not sound.too_broken
    broken = taken(range(1, 100_000, 2))
    assert len(broken.runs) == MAX_RUNS and broken.too_broken
    assert (broken.breaks, broken.highest) == (49_999, 99_999)


spans = st.tuples(st.integers(1, 20), st.integers(0, 5)).map(lambda pair: Span(pair[0], sum(pair)))


@given(spans, st.lists(spans, max_size=5))
def test_subtracting_spans_is_subtracting_sets(span: Span, others: list[Span]) -> None:
    rest = subtract(span, others)
    assert numbers_of(rest) == sorted(set(numbers_of([span])) - set(numbers_of(others)))
