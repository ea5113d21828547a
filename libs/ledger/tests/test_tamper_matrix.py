"""Every field of an entry changed; entries deleted, moved, repeated, cut off: each named by its sequence.

Where a test says `==`, one cause gives exactly one finding.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from countersign_ledger import Entry, verify_export
from countersign_ledger.export import encode_item

Lines = Callable[[int], list[bytes]]
Verify = Callable[..., list[tuple[int | None, str]]]
COUNT = 25
PLACES = (1, 2, 9, 10, 11, 24, 25)  # 10 and 20 are followed by a checkpoint, 25 is covered by the header's
FIELDS = tuple(Entry.__slots__)


def other_time(value: str) -> str:
    return value.replace("09:0", "10:0")


@pytest.mark.parametrize("seq", PLACES)
@pytest.mark.parametrize("name", FIELDS)
def test_any_changed_field_is_found_at_its_entry(
    name: str, seq: int, lines: list[bytes], verify: Verify, world: Any
) -> None:
    at = world.line_of(lines, seq)
    lines[at] = world.changed(lines[at], name, other_time if name == "recorded_at" else world.other)
    assert verify(lines) == [(seq, "altered")]


@pytest.mark.parametrize("value", [0, 1, 3, 12, 24, 25, 26, 1000, 2**64 - 1, 2**64])
def test_any_other_sequence_is_found_at_its_entry(value: int, lines: list[bytes], verify: Verify, world: Any) -> None:
    at = world.line_of(lines, 11)
    lines[at] = world.changed(lines[at], "seq", lambda _: value)
    assert verify(lines) == [(11, "malformed" if value in (0, 2**64) else "altered")]


@pytest.mark.parametrize("name", ["signature", "body", "hash", "prev_hash"])
def test_every_bit_of_a_binary_field_counts(name: str, lines: list[bytes], verify: Verify, world: Any) -> None:
    entry = world.ledger(COUNT)[6]
    at = world.line_of(lines, 7)
    raw = getattr(entry, name)
    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        lines[at] = encode_item(replace(entry, **{name: bytes(flipped)}))
        assert (7, "altered") in verify(lines[:1] + lines[at - 1 : at + 2])


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_every_flipped_byte_of_an_entry_is_found_at_it(mask: int, lines_of: Lines, verify: Verify) -> None:
    lines = lines_of(3)
    for at in range(len(lines[2]) - 1):
        flipped = bytearray(lines[2])
        flipped[at] ^= mask
        found = verify([lines[0], lines[1], bytes(flipped), lines[3]])
        assert len(found) == 1, (at, found)
        assert found[0][0] == 2 and found[0][1] in ("altered", "malformed"), (at, found)


def test_every_flipped_byte_of_a_file_is_found_or_changes_nothing(lines_of: Lines, verify: Verify) -> None:
    whole = b"".join(lines_of(3))
    unsigned = json.loads(lines_of(3)[0])["exported_at"].encode()
    harmless = range(whole.index(unsigned), whole.index(unsigned) + len(unsigned))
    for at in range(len(whole) - 1):
        flipped = bytearray(whole)
        flipped[at] ^= 0x01
        if at not in harmless:
            assert verify(io.BytesIO(bytes(flipped))), at


@pytest.mark.parametrize("seq", range(1, COUNT))
def test_a_deleted_entry_is_missing(seq: int, lines: list[bytes], verify: Verify, world: Any) -> None:
    del lines[world.line_of(lines, seq)]
    assert verify(lines) == [(seq, "missing")]


def test_deleted_entries_are_one_finding_for_each_gap(lines: list[bytes], verify: Verify, world: Any) -> None:
    for seq in (3, 4, 5, 12, 20, 21):
        del lines[world.line_of(lines, seq)]
    assert verify(lines) == [(3, "missing"), (12, "missing"), (20, "missing")]
    report = verify_export(lines, world.bundle)
    assert [finding.message for finding in report.findings] == [
        "Entries 3 to 5 are missing between entries 2 and 6: deleted after being recorded.",
        "Entry 12 is missing between entries 11 and 13: deleted after being recorded.",
        "Entries 20 to 21 are missing between entries 19 and 22: deleted after being recorded.",
    ]
    assert "Stream sequences were not compared across the places where the ledger itself is not sound." in (
        report.notes
    )


@pytest.mark.parametrize("length", range(COUNT))
def test_a_cut_off_tail_is_found_where_it_begins(length: int, lines: list[bytes], verify: Verify, world: Any) -> None:
    kept = lines[: world.line_of(lines, length) + 1] if length else lines[:1]
    assert verify(kept) == [(length + 1, "truncated")]


@pytest.mark.parametrize("keep", [1, 100, 300])
def test_a_file_cut_in_the_middle_of_a_line_is_found_there(
    keep: int, lines: list[bytes], verify: Verify, world: Any
) -> None:
    at = world.line_of(lines, 14)
    assert verify([*lines[:at], lines[at][:keep]]) == [(14, "malformed"), (15, "truncated")]
    at = world.line_of(lines, COUNT)
    assert verify([*lines[:at], lines[at][:keep]]) == [(COUNT, "malformed")]


def test_a_cut_off_tail_is_found_though_the_header_is_made_to_fit(
    lines: list[bytes], verify: Verify, world: Any
) -> None:
    cut = lines[: world.line_of(lines, 18) + 1]
    cut[0] = world.changed(cut[0], "last_seq", lambda _: 18)
    assert verify(cut) == [(19, "truncated")]
    assert verify_export(cut, world.bundle).findings[0].message == (
        "The export ends with entry 18, but the header's checkpoint proves that there was an entry 25: what was "
        "recorded from entry 19 on was cut off."
    )


def test_a_cut_back_to_an_older_checkpoint_is_found_by_one_kept_outside(
    world: Any, lines: list[bytes], verify: Verify
) -> None:
    entries = world.ledger(COUNT)
    shorter = world.export(entries[:20])
    assert verify(shorter) == []
    assert verify(shorter, [world.checkpoint(entries[24])]) == [(21, "truncated")]
    assert verify(shorter, [world.checkpoint(entries[4]), world.checkpoint(entries[19])]) == []


@pytest.mark.parametrize("seq", range(1, COUNT))
def test_two_swapped_entries_are_one_finding(seq: int, lines: list[bytes], verify: Verify, world: Any) -> None:
    a, b = world.line_of(lines, seq), world.line_of(lines, seq + 1)
    lines[a], lines[b] = lines[b], lines[a]
    ((found, kind),) = verify(lines)
    assert kind == "reordered" and found in (seq, seq + 1)


@pytest.mark.parametrize(("seq", "after"), [(5, 15), (5, 25), (15, 5), (25, 2), (1, 25), (12, 20)])
def test_a_moved_entry_is_the_one_named(seq: int, after: int, lines: list[bytes], verify: Verify, world: Any) -> None:
    line = lines.pop(world.line_of(lines, seq))
    lines.insert(world.line_of(lines, after) + 1, line)
    assert verify(lines) == [(seq, "reordered")]
    message = verify_export(lines, world.bundle).findings[0].message
    assert message == f"Entry {seq} stands after entry {after}: out of order."


def test_moved_entries_are_named_together(lines: list[bytes], verify: Verify, world: Any) -> None:
    moved = [lines.pop(world.line_of(lines, seq)) for seq in (12, 13, 14)]
    at = world.line_of(lines, 3) + 1
    lines[at:at] = moved
    assert verify(lines) == [(12, "reordered")]


@pytest.mark.parametrize("seq", PLACES)
@pytest.mark.parametrize("after", [1, 7, 10, 25])
def test_a_repeated_entry_is_a_duplicate(seq: int, after: int, lines: list[bytes], verify: Verify, world: Any) -> None:
    lines.insert(world.line_of(lines, after) + 1, lines[world.line_of(lines, seq)])
    assert verify(lines) == [(seq, "duplicate")]


def test_an_entry_that_cannot_have_been_recorded_is_malformed(lines: list[bytes], verify: Verify, world: Any) -> None:
    at = world.line_of(lines, 12)
    lines[at] = world.changed(lines[at], "subject", lambda subject: subject * 10_000)
    assert verify(lines) == [(12, "malformed")]


def test_a_line_of_noise_is_named_by_the_entry_it_stands_after(lines: list[bytes], verify: Verify, world: Any) -> None:
    lines.insert(world.line_of(lines, 7) + 1, b"noise\n")
    assert verify(lines) == [(7, "malformed")]
    assert verify([lines[0], b"noise\n", *lines[1:7]])[0] == (None, "malformed")


def test_messages_say_what_and_where(lines: list[bytes], world: Any) -> None:
    def messages(*changed: bytes) -> list[str]:
        return [finding.message for finding in verify_export(changed, world.bundle).findings]

    (cut_at_once,) = messages(lines[0])
    assert cut_at_once.startswith("The export ends before its first entry, but the header's checkpoint proves")
    (without_first,) = messages(lines[0], *lines[2:])
    assert without_first == "Entry 1 is missing before entry 2: deleted after being recorded."
    (unreadable,) = messages(*lines[:5], b"noise", *lines[6:])
    assert unreadable == "Line 6, where entry 5 should stand, cannot be read: is not JSON (Expecting value, column 1)."
    (several,) = messages(*lines[:5], b"noise", b"noise", b"noise", *lines[8:])
    assert several.endswith("column 1). Nor can the 2 after it.")
    (in_front,) = messages(lines[0], b"", *lines[1:])
    assert in_front == "Line 2, before the first entry, cannot be read: is empty."
    (between,) = messages(*lines[:5], b"", *lines[5:])
    assert between == "Line 6, after entry 4, cannot be read: is empty."
    repeated = messages(*lines[:5], lines[4], lines[3], lines[4], *lines[5:])
    assert repeated == ["Entries 3 to 4 are there more than once."]


def test_noise_everywhere_is_bounded(world: Any, lines_of: Lines) -> None:
    noisy = [line for sound in lines_of(2100) for line in (sound, b"noise")]
    report = verify_export(noisy, world.bundle)
    assert {finding.kind for finding in report.findings} == {"malformed"}
    assert report.left_out == 1000 + 1 - len(report.findings)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("seq", "its seq was 12 and is now 13."),
        ("prev_hash", "its prev_hash was changed, and nothing else."),
        ("body", "the event itself was changed, for the signature is not one of key policy-1 over this message."),
        (
            "type",
            "the event itself was changed, for key policy-1 of policy may not sign 'countersign.act0ons.granted.v1'.",
        ),
        ("stream_seq", "the event is as signed, so what audit added to it was changed, or one of the hashes."),
        ("hash", "the event is as signed, so what audit added to it was changed, or one of the hashes."),
    ],
)
def test_the_message_tells_what_was_altered(name: str, what: str, lines: list[bytes], world: Any) -> None:
    at = world.line_of(lines, 12)
    lines[at] = world.changed(lines[at], name, world.other)
    (finding,) = verify_export(lines, world.bundle).findings
    assert finding.message == f"Entry 12 was altered after it was recorded: {what}"


def test_an_altered_entry_after_a_deleted_one_keeps_its_sequence(
    lines: list[bytes], verify: Verify, world: Any
) -> None:
    at = world.line_of(lines, 12)
    lines[at] = world.changed(lines[at], "body", world.other)
    del lines[at - 1]
    assert verify(lines) == [(11, "missing"), (12, "altered")]
