"""Checkpoints and the header changed, forged, moved and replayed.

Where a test says `==`, one cause gives exactly one finding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from countersign_ledger import Checkpoint, verify_export
from countersign_ledger.export import encode_item

Verify = Callable[..., list[tuple[int | None, str]]]
COUNT = 25


@pytest.mark.parametrize("name", ["deployment", "seq", "hash", "time", "keyid", "signature"])
@pytest.mark.parametrize("where", ["header", "line", "outside"])
def test_a_changed_checkpoint_proves_nothing_and_is_found(
    name: str, where: str, world: Any, lines: list[bytes], verify: Verify
) -> None:
    known: list[Checkpoint] = []
    if where == "header":
        lines[0] = world.changed(lines[0], "head", lambda head: {**head, name: world.other(head[name])})
        seq = 25
    elif where == "line":
        lines[11] = world.changed(lines[11], name, world.other)
        seq = 10
    else:
        genuine = world.checkpoint(world.ledger(COUNT)[9]).to_dict()
        known = [Checkpoint.from_dict({**genuine, name: world.other(genuine[name])})]
        seq = 10
    if name == "seq":
        seq += 1
    assert verify(lines, known) == [(seq, "checkpoint-untrusted")]


@pytest.mark.parametrize("signer", ["policy", "gateway", "stranger"])
@pytest.mark.parametrize("where", ["header", "line", "outside"])
def test_a_checkpoint_signed_by_another_service_proves_nothing(
    signer: str, where: str, world: Any, lines: list[bytes], verify: Verify
) -> None:
    entries = world.ledger(COUNT)
    forged = world.checkpoint(entries[9], key=getattr(world, signer))
    known = []
    if where == "header":
        forged = world.checkpoint(entries[24], key=getattr(world, signer))
        lines[0] = world.changed(lines[0], "head", lambda _: forged.to_dict())
    elif where == "line":
        lines[11] = encode_item(forged)
    else:
        known = [forged]
    assert verify(lines, known) == [(25 if where == "header" else 10, "checkpoint-untrusted")]


def test_a_chain_rewritten_with_checkpoints_by_another_service_is_found(world: Any, verify: Verify) -> None:
    rewritten = world.rehash(world.ledger(COUNT), 6, recorded_at="2026-01-31T11:00:00.000000Z")
    head = world.checkpoint(rewritten[-1], key=world.policy)
    assert verify(world.export(rewritten, every=100, head=head)) == [(25, "checkpoint-untrusted")]


def test_checkpoints_by_one_stranger_are_one_finding_and_damaged_ones_one_each(world: Any) -> None:
    entries = world.ledger(COUNT)
    by_stranger = [world.checkpoint(entry, key=world.stranger) for entry in entries[:5]]
    (finding,) = verify_export(world.export(entries), world.bundle, by_stranger).findings
    assert (finding.seq, finding.kind) == (1, "checkpoint-untrusted")
    assert finding.message.startswith("A checkpoint kept outside, for entry 1, proves nothing: ")
    assert finding.message.endswith("The same holds for 4 more, up to entry 5.")
    damaged = [replace(world.checkpoint(entry), signature=bytes(64)) for entry in entries[:5]]
    assert len(verify_export(world.export(entries), world.bundle, damaged).findings) == 5


@pytest.mark.parametrize("to", [1, 5, 15, 25])
def test_a_misplaced_checkpoint_is_found(to: int, lines: list[bytes], verify: Verify, world: Any) -> None:
    line = lines.pop(11)
    lines.insert(world.line_of(lines, to) + 1, line)
    assert verify(lines) == [(10, "checkpoint-misplaced")]
    message = verify_export(lines, world.bundle).findings[0].message
    number = lines.index(line) + 1
    assert message == f"The checkpoint in line {number} is for entry 10, but stands after entry {to}."


def test_a_checkpoint_that_stands_before_its_entry_still_counts(lines: list[bytes], verify: Verify, world: Any) -> None:
    early = encode_item(world.checkpoint(world.ledger(COUNT)[24]))
    lines.insert(world.line_of(lines, 5) + 1, early)
    assert verify(lines) == [(25, "checkpoint-misplaced")]


def test_a_checkpoint_that_stands_before_its_entry_is_compared_with_it(
    lines: list[bytes], verify: Verify, world: Any
) -> None:
    foreign = Checkpoint.make(world.audit, deployment="test", seq=10, hash=b"\7" * 32, time="2026-01-31T10:00:00Z")
    lines.insert(world.line_of(lines, 5) + 1, encode_item(foreign))
    assert verify(lines) == [(10, "checkpoint-mismatch"), (10, "checkpoint-misplaced")]


@pytest.mark.parametrize("first", [1, 15])
@pytest.mark.parametrize("genuine", [True, False])
def test_a_checkpoint_in_front_is_compared_with_the_first_prev_hash(
    first: int, genuine: bool, verify: Verify, world: Any
) -> None:
    entries = world.ledger(COUNT)[first - 1 :]
    before = Checkpoint.make(
        world.audit,
        deployment="test",
        seq=first - 1,
        hash=entries[0].prev_hash if genuine else b"\7" * 32,
        time="2026-01-31T10:00:00Z",
    )
    header, *rest = world.export(entries)
    assert verify([header, encode_item(before), *rest]) == ([] if genuine else [(first - 1, "checkpoint-mismatch")])


def test_a_checkpoint_for_a_later_entry_shows_that_the_tail_was_cut_off(
    lines: list[bytes], verify: Verify, world: Any
) -> None:
    lines.append(encode_item(world.checkpoint(world.ledger(30)[29])))
    assert verify(lines) == [(26, "truncated")]


def test_a_replayed_older_header_leaves_the_rest_uncovered(world: Any, lines: list[bytes], verify: Verify) -> None:
    older = world.checkpoint(world.ledger(COUNT)[20])
    lines[0] = world.changed(lines[0], "head", lambda _: older.to_dict())
    assert verify(lines) == [(22, "uncovered")]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("first_seq", 3, [(None, "header")]),
        ("last_seq", 24, [(None, "header")]),
        ("last_seq", 26, [(26, "truncated")]),
        ("last_seq", 2**64 - 1, [(26, "truncated")]),
        ("format", "tar", [(None, "header")]),
        ("version", 2, [(None, "header")]),
        ("deployment", "other", [(None, "wrong-deployment")]),
        ("head", None, [(None, "header")]),
    ],
)
def test_a_changed_header_is_found(
    name: str,
    value: object,
    expected: list[tuple[int | None, str]],
    lines: list[bytes],
    verify: Verify,
    world: Any,
) -> None:
    lines[0] = world.changed(lines[0], name, lambda _: value)
    assert verify(lines) == expected


def test_a_missing_header_is_found_and_the_entries_verified(lines: list[bytes], verify: Verify, world: Any) -> None:
    assert verify(lines[1:]) == [(None, "header")]
    foreign = replace(world.ledger(1)[0], hash=b"\7" * 32)
    assert verify(lines[1:], [world.checkpoint(foreign)]) == [(None, "header"), (1, "checkpoint-mismatch")]
    del lines[world.line_of(lines, 5)]
    assert verify(lines[1:]) == [(None, "header"), (5, "missing")]


def test_a_header_whose_checkpoint_is_not_for_its_last_entry_is_wrong_though_another_covers_it(
    world: Any, lines: list[bytes], verify: Verify
) -> None:
    older, last = (world.checkpoint(world.ledger(COUNT)[seq - 1]) for seq in (21, 25))
    lines[0] = world.changed(lines[0], "head", lambda _: older.to_dict())
    assert verify([*lines, encode_item(last)]) == [(None, "header")]


def test_a_cut_off_only_entry_is_one_finding(lines_of: Callable[[int], list[bytes]], verify: Verify) -> None:
    assert verify(lines_of(1)[:1]) == [(1, "truncated")]
