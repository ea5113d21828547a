"""Events of one stream that were not recorded one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from countersign_ledger import verify_export

Verify = Callable[..., list[tuple[int | None, str]]]


def streamed(world: Any, sequence: Iterable[int], epochs: Iterable[int] | None = None) -> list[bytes]:
    numbers = list(sequence)
    records = [
        world.record(i, stream="S", stream_seq=n, epoch=e)
        for i, (n, e) in enumerate(zip(numbers, epochs or [1] * len(numbers), strict=True), start=1)
    ]
    lines: list[bytes] = world.export(world.entries(records))
    return lines


@pytest.mark.parametrize(
    ("sequence", "expected"),
    [
        ([1, 2, 3, 4], []),
        ([7, 8, 9], []),
        ([1, 2, 4, 5], [3]),
        ([1, 2, 6, 7], [3]),
        ([1, 3, 5, 7], [2, 3, 4]),
        ([1, 2, 4, 3, 5], [4]),
        ([1, 5, 2, 4, 6], [2, 3, 4]),
        ([1, 2, 2, 3], [3]),
        ([1, 2, 3, 1, 4], [4]),
        ([3, 2, 1], [2, 3]),
    ],
)
def test_a_gap_in_a_stream_shows_at_the_entry_after_it(
    sequence: list[int], expected: list[int], world: Any, verify: Verify
) -> None:
    assert verify(streamed(world, sequence)) == [(seq, "stream-gap") for seq in expected]


def test_streams_and_epochs_are_counted_apart(world: Any, verify: Verify) -> None:
    assert verify(streamed(world, [1, 2, 3, 1, 2], [1, 1, 1, 2, 2])) == []
    assert verify(streamed(world, [1, 1, 2, 2, 3, 4], [1, 2, 1, 2, 1, 2])) == [(6, "stream-gap")]


def test_the_messages_tell_gaps_from_disorder_and_repetition(world: Any) -> None:
    def messages(sequence: list[int]) -> list[str]:
        return [finding.message for finding in verify_export(streamed(world, sequence), world.bundle).findings]

    assert messages([1, 2, 6]) == [
        "Events 3 to 5 are not on record before entry 3, in stream 'S' (created at 1): never recorded, or "
        "removed and the ledger rewritten."
    ]
    assert "Event 2 of stream 'S' (created at 1) is recorded out of order, in entry 3" in messages([1, 3, 2])[0]
    assert "Event 2 of stream 'S' (created at 1) is recorded again in entry 3" in messages([1, 2, 2])[0]


def test_a_stream_full_of_gaps_is_bounded(world: Any) -> None:
    report = verify_export(streamed(world, range(1, 1001, 2)), world.bundle)
    assert {finding.kind for finding in report.findings} == {"stream-gap"}
    assert len(report.findings) + report.left_out == 499
