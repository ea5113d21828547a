"""The chain rewritten and rehashed: without a key, by another service, by audit itself; and events forged.

Where a test says `==`, one cause gives exactly one finding.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from countersign_ledger import Chain, verify_export
from countersign_ledger.export import encode_item

Verify = Callable[..., list[tuple[int | None, str]]]
COUNT = 25
PLACES = (1, 2, 9, 10, 11, 24, 25)  # 10 and 20 are followed by a checkpoint, 25 is covered by the header's


@pytest.mark.parametrize("seq", PLACES)
@pytest.mark.parametrize("name", ["event_id", "type", "source", "subject", "time", "keyid", "signature", "body"])
def test_a_rewritten_event_fails_its_signature_and_the_checkpoint(
    name: str, seq: int, world: Any, verify: Verify
) -> None:
    entries = world.ledger(COUNT)
    value = getattr(entries[seq - 1], name)
    value = bytes([value[0] ^ 1]) + value[1:] if isinstance(value, bytes) else value + "x"
    rewritten = world.rehash(entries, seq, **{name: value})
    genuine_head = world.checkpoint(entries[-1])
    kind = {"type": "not-entitled", "keyid": "unknown-key"}.get(name, "bad-signature")
    assert sorted(verify(world.export(rewritten, every=100, head=genuine_head))) == sorted(
        [(seq, kind), (COUNT, "checkpoint-mismatch")]
    )


@pytest.mark.parametrize(
    ("name", "value"), [("recorded_at", "2026-01-31T11:00:00.000000Z"), ("stream", "OTHER"), ("epoch", 1)]
)
def test_rewriting_what_audit_added_fails_the_next_checkpoint(
    name: str, value: object, world: Any, lines: list[bytes], verify: Verify
) -> None:
    entries = world.ledger(COUNT)
    rewritten = world.rehash(entries, 13, **{name: value})
    for i, line in enumerate(lines):
        if line.startswith(b'{"entry"'):
            lines[i] = encode_item(rewritten[json.loads(line)["entry"]["seq"] - 1])
    assert (20, "checkpoint-mismatch") in verify(lines)
    assert {kind for _, kind in verify(lines)} <= {"checkpoint-mismatch", "stream-gap"}
    report = verify_export(lines, world.bundle)
    message = next(f.message for f in report.findings if f.kind == "checkpoint-mismatch")
    assert message.startswith(
        "The checkpoint in line 23, signed at 2026-01-31T10:00:00Z, has another hash for entry 20"
    )
    assert "of entries 11 to 20 at least one is not what was on record" in message
    assert "Later checkpoints that have other hashes too, as follows from the first: 1." in report.notes


def test_one_entry_replaced_and_rehashed_is_named_by_the_next_checkpoint(
    world: Any, lines: list[bytes], verify: Verify
) -> None:
    entry = replace(world.ledger(COUNT)[12], recorded_at="2026-01-31T11:00:00.000000Z")
    lines[world.line_of(lines, 13)] = encode_item(replace(entry, hash=entry.compute_hash()))
    assert verify(lines) == [(13, "replaced")]
    message = verify_export(lines, world.bundle).findings[0].message
    assert message == (
        "Entry 13 is not the one that was recorded: entry 14 continues an entry of another hash, and a "
        "checkpoint proves entries 14 to 20."
    )


@pytest.mark.parametrize("seq", [1, 2, 9, 13, 24])
def test_one_entry_replaced_with_another_prev_hash_too_is_one_finding(
    seq: int, world: Any, lines: list[bytes], verify: Verify
) -> None:
    entry = replace(world.ledger(COUNT)[seq - 1], prev_hash=b"\7" * 32)
    lines[world.line_of(lines, seq)] = encode_item(replace(entry, hash=entry.compute_hash()))
    assert verify(lines) == [(seq, "replaced")]


def test_two_entries_replaced_are_both_found(world: Any, lines: list[bytes], verify: Verify) -> None:
    for seq in (12, 17):
        entry = replace(world.ledger(COUNT)[seq - 1], recorded_at="2026-01-31T11:00:00.000000Z")
        lines[world.line_of(lines, seq)] = encode_item(replace(entry, hash=entry.compute_hash()))
    assert verify(lines) == [(13, "broken-link"), (17, "replaced")]
    message = verify_export(lines, world.bundle).findings[0].message
    assert message.startswith("Entry 13 does not continue entry 12: its prev_hash is not that entry's hash.")


def test_a_replaced_entry_that_no_later_checkpoint_proves_is_a_broken_link(
    world: Any, lines: list[bytes], verify: Verify
) -> None:
    entry = replace(world.ledger(COUNT)[22], recorded_at="2026-01-31T11:00:00.000000Z")
    lines[world.line_of(lines, 23)] = encode_item(replace(entry, hash=entry.compute_hash()))
    lines[0] = world.changed(
        lines[0], "head", lambda head: {**head, "signature": json.loads(lines[11])["checkpoint"]["signature"]}
    )
    assert verify(lines) == [(24, "broken-link"), (25, "checkpoint-untrusted")]


@pytest.mark.parametrize("doubt", ["missing", "checkpoint-mismatch"])
def test_a_checkpoint_after_a_doubtful_place_does_not_tell_who_was_replaced_before_it(
    doubt: str, world: Any, lines: list[bytes], verify: Verify
) -> None:
    entries = world.ledger(COUNT)
    entry = replace(entries[11], recorded_at="2026-01-31T11:00:00.000000Z")
    lines[world.line_of(lines, 12)] = encode_item(replace(entry, hash=entry.compute_hash()))
    known = []
    if doubt == "missing":
        del lines[world.line_of(lines, 20)]
    else:
        rewritten = world.rehash(entries, 2, recorded_at="2026-01-31T11:00:00.000000Z")
        known = [world.checkpoint(rewritten[19])]
    assert verify(lines, known) == [(13, "broken-link"), (20, doubt)]


def test_a_first_entry_that_does_not_begin_at_genesis_is_found(world: Any, verify: Verify) -> None:
    chain = Chain(1, b"\7" * 32)
    entries = [replace(chain.append(world.record(1)), seq=1)]
    entries[0] = replace(entries[0], hash=entries[0].compute_hash())
    chain = Chain(1, entries[0].hash)
    entries += [chain.append(world.record(n)) for n in (2, 3)]
    genuine = world.checkpoint(world.ledger(3)[-1])
    assert verify(world.export(entries, head=genuine)) == [(1, "broken-link"), (3, "checkpoint-mismatch")]
    (finding,) = verify_export(world.export(entries), world.bundle).findings
    assert (finding.seq, finding.kind) == (1, "broken-link")
    assert finding.message.startswith("Entry 1 does not begin the chain")


def test_deleting_and_renumbering_is_found(world: Any, verify: Verify) -> None:
    entries = world.ledger(COUNT)
    chain = Chain()
    forged = [chain.append(world.record(n)) for n in range(1, COUNT + 1) if n != 13]
    found = verify(world.export(forged, every=100, head=world.checkpoint(entries[-1])))
    assert found == [(14, "stream-gap"), (25, "truncated")]
    found = verify(world.export(forged, every=100), [world.checkpoint(entries[19])])
    assert found == [(14, "stream-gap"), (20, "checkpoint-mismatch")]


def test_a_ledger_rewritten_whole_by_audit_itself_is_found_by_a_checkpoint_kept_outside(
    world: Any, verify: Verify
) -> None:
    entries = world.ledger(COUNT)
    rewritten = world.rehash(entries, 6, recorded_at="2026-01-31T11:00:00.000000Z")
    assert verify(world.export(rewritten)) == []
    assert verify(world.export(rewritten), [world.checkpoint(entries[4])]) == []
    assert verify(world.export(rewritten), [world.checkpoint(entries[14])]) == [(15, "checkpoint-mismatch")]


def test_two_genuine_checkpoints_that_differ_are_found_wherever_they_are(world: Any, verify: Verify) -> None:
    entries = world.ledger(COUNT)
    rewritten = world.rehash(entries, 2, recorded_at="2026-01-31T11:00:00.000000Z")
    both = [world.checkpoint(entries[4]), world.checkpoint(rewritten[4])]
    assert verify(world.export(entries), both) == [(5, "checkpoint-mismatch")]
    assert verify(world.export(entries[14:]), both) == [(5, "checkpoint-mismatch")]


def test_an_event_signed_by_a_key_that_may_not_is_found(world: Any, verify: Verify) -> None:
    records = [world.record(n) for n in range(1, 13)]
    records[5] = world.sign(replace(records[5], keyid=world.gateway.kid))
    assert verify(world.export(world.entries(records))) == [(6, "not-entitled")]
    records[5] = world.sign(replace(records[5], keyid=world.stranger.kid))
    assert verify(world.export(world.entries(records))) == [(6, "unknown-key")]
    records[5] = world.sign(replace(records[5], keyid=world.policy.kid), key=world.stranger)
    assert verify(world.export(world.entries(records))) == [(6, "bad-signature")]
