"""What a sound export gives, what the notes say, and that no input makes the verifier raise."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from countersign_ledger import (
    UNVERIFIED_TYPE,
    Checkpoint,
    ExportHeader,
    Record,
    Report,
    TrustBundle,
    verify_export,
    write_export,
)
from countersign_ledger.report import MAX_FINDINGS_PER_KIND

Lines = Callable[[int], list[bytes]]


def kinds(report: Report) -> list[tuple[int | None, str]]:
    return [(finding.seq, finding.kind) for finding in report.findings]


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 35])
def test_a_sound_export_has_no_findings(count: int, world: Any, lines_of: Lines) -> None:
    report = verify_export(lines_of(count), world.bundle)
    assert report.ok and report.findings == () and report.left_out == 0
    assert (report.entries, report.first_seq, report.last_seq) == (count, 1, count)
    assert report.checkpoints == count // 10


def test_lines_may_be_bytes_text_or_a_stream(world: Any, lines_of: Lines) -> None:
    lines = lines_of(12)
    as_text = b"".join(lines).decode()
    for form in (iter(lines), as_text.splitlines(), io.BytesIO(b"".join(lines)), io.StringIO(as_text)):
        assert verify_export(form, world.bundle) == verify_export(lines, world.bundle)


def test_json_may_be_spelt_in_other_ways(world: Any, lines_of: Lines) -> None:
    respelt = [json.dumps(json.loads(line), indent=None, sort_keys=True, ensure_ascii=True) for line in lines_of(12)]
    assert verify_export(respelt, world.bundle).ok


def test_an_empty_ledger_is_sound_if_audit_says_that_it_is_empty(world: Any) -> None:
    head = Checkpoint.make(world.audit, deployment="test", seq=0, hash=bytes(32), time="2026-01-31T10:00:00Z")
    report = verify_export(write_export(ExportHeader("test", 1, 0, "t", head), []), world.bundle)
    assert report.ok and (report.entries, report.first_seq, report.last_seq) == (0, 0, 0)
    false_head = Checkpoint.make(world.audit, deployment="test", seq=0, hash=b"\1" * 32, time="2026-01-31T10:00:00Z")
    report = verify_export(write_export(ExportHeader("test", 1, 0, "t", false_head), []), world.bundle)
    assert kinds(report) == [(0, "checkpoint-mismatch")]


def test_an_export_of_nothing_from_the_middle_of_a_ledger_is_not_sound(world: Any) -> None:
    head = world.checkpoint(world.ledger(4)[-1])
    report = verify_export(write_export(ExportHeader("test", 5, 4, "t", head), []), world.bundle)
    assert kinds(report) == [(None, "header")]


def test_a_partial_export_is_sound_and_says_so(world: Any) -> None:
    entries = world.ledger(30)
    report = verify_export(world.export(entries[14:25]), world.bundle)
    assert report.ok and (report.entries, report.first_seq, report.last_seq) == (11, 15, 25)
    assert any("partial export" in note and "before entry 15" in note for note in report.notes)


def test_a_partial_export_is_compared_with_a_checkpoint_for_the_entry_before(world: Any) -> None:
    entries = world.ledger(30)
    before = world.checkpoint(entries[13])
    assert verify_export(world.export(entries[14:25]), world.bundle, [before]).ok
    rewritten = world.rehash(entries, 3, recorded_at="2026-01-31T09:00:00.000001Z")
    report = verify_export(world.export(rewritten[14:25]), world.bundle, [before])
    assert kinds(report) == [(14, "checkpoint-mismatch")]


def test_checkpoints_from_before_a_partial_export_are_noted_as_not_compared(world: Any) -> None:
    entries = world.ledger(30)
    report = verify_export(world.export(entries[14:25]), world.bundle, [world.checkpoint(entries[4])])
    assert report.ok
    assert "Checkpoints for entries before this export were not compared: 1." in report.notes


def test_checkpoints_kept_outside_that_agree_take_a_note_away(world: Any, lines_of: Lines) -> None:
    known = [world.checkpoint(entry) for entry in world.ledger(20)[::3]]
    with_known, without = (
        verify_export(lines_of(20), world.bundle, known),
        verify_export(lines_of(20), world.bundle),
    )
    assert with_known.ok and with_known.notes == ()
    assert without.notes == (
        "No checkpoint kept outside was given: that the ledger goes on after entry 20 cannot be ruled out.",
    )


def test_events_that_audit_could_not_verify_are_counted(world: Any) -> None:
    def record(number: int) -> Record:
        wrapped = {} if number % 3 else {"type": UNVERIFIED_TYPE, "keyid": world.audit.kid}
        result: Record = world.record(number, **wrapped)
        return result

    report = verify_export(world.export(world.entries(map(record, range(1, 41)))), world.bundle)
    assert report.ok
    assert (
        "Events not verifiable on arrival: 13, in entries 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, ..." in report.notes[0]
    )


def test_a_stream_that_was_recreated_or_begins_late_is_noted(world: Any) -> None:
    records = [world.record(n, stream="A", stream_seq=n + 4) for n in range(1, 6)]
    records += [world.record(n, stream="A", epoch=1_800_000_000, stream_seq=n - 5) for n in range(6, 9)]
    report = verify_export(world.export(world.entries(records)), world.bundle)
    assert report.ok
    assert any("'A' (created at 1700000000) is on record from its event 5" in note for note in report.notes)
    assert any("'A' was created 2 times" in note for note in report.notes)


def test_progress_is_told_every_thousand_entries_and_at_the_end(world: Any, lines_of: Lines) -> None:
    told: list[int] = []
    verify_export(lines_of(2100), world.bundle, progress=told.append)
    assert told == [1000, 2000, 2100]


def test_memory_does_not_grow_with_the_export(world: Any, lines_of: Lines) -> None:
    def peak(count: int) -> int:
        lines = lines_of(count)
        tracemalloc.start()
        assert verify_export(iter(lines), world.bundle).ok
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(35)
    assert peak(2100) < peak(210) + 50_000


def test_an_export_of_another_deployment_is_named_and_its_chain_checked(world: Any, lines_of: Lines) -> None:
    bundle = TrustBundle("production", world.bundle.keys)
    assert kinds(verify_export(lines_of(12), bundle)) == [(None, "wrong-deployment")]
    lines = lines_of(12)
    del lines[4]
    assert kinds(verify_export(lines, bundle)) == [(None, "wrong-deployment"), (4, "missing")]
    lines[6] = world.changed(lines[6], "subject", world.other)
    altered = verify_export(lines, bundle).findings[-1]
    assert altered.message == "Entry 7 was altered after it was recorded: its content does not give its hash."


def test_a_ledger_of_another_deployment_with_the_same_keys_does_not_pass_as_ours(world: Any) -> None:
    entries = world.ledger(5)
    foreign = world.export(entries, head=world.checkpoint(entries[-1], deployment="other"))
    header = json.loads(foreign[0])
    header["deployment"] = "test"
    report = verify_export([json.dumps(header), *foreign[1:]], world.bundle)
    assert kinds(report) == [(5, "checkpoint-untrusted")]


def test_one_key_missing_from_the_bundle_is_one_finding(world: Any, lines_of: Lines) -> None:
    bundle = TrustBundle.of("test", [world.audit.trusted(world.bundle.keys[world.audit.kid].emits)])
    report = verify_export(lines_of(35), bundle)
    assert kinds(report) == [(1, "unknown-key"), (2, "unknown-key")]
    assert "The same holds for 17 more, up to entry 35." in report.findings[0].message


def test_a_flood_of_findings_is_cut_and_counted(world: Any, lines_of: Lines) -> None:
    lines = lines_of(100)
    for i, line in enumerate(lines):
        if line.startswith(b'{"entry"'):
            document = json.loads(line)
            document["entry"]["subject"] += "!"
            lines[i] = json.dumps(document).encode()
    report = verify_export(lines, world.bundle)
    assert [seq for seq, _ in kinds(report)] == list(range(1, MAX_FINDINGS_PER_KIND + 1))
    assert report.left_out == 100 - MAX_FINDINGS_PER_KIND
    assert f"{report.left_out} more findings of the kind altered were left out." in report.notes


def test_a_file_that_is_no_export_is_said_to_be_none(world: Any) -> None:
    assert kinds(verify_export([], world.bundle)) == [(None, "header")]
    picture = [b"\x89PNG\r\n", b"\x1a\n", *[b"\x00" * 100] * 5000]
    report = verify_export(picture, world.bundle)
    assert kinds(report) == [(None, "header"), (None, "malformed")]
    assert "Nor can the 5000 after it" in report.findings[1].message


def test_an_order_broken_everywhere_is_one_finding(world: Any, lines_of: Lines) -> None:
    lines = [line for line in lines_of(2100) if line.startswith(b'{"entry"')]
    report = verify_export([lines_of(2100)[0], *lines[::2], *lines[1::2][:-1]], world.bundle)
    assert kinds(report) == [(2, "reordered"), (2100, "truncated")]
    assert "broken in 2098 places" in report.findings[0].message


def test_a_signer_without_validity_then_is_not_believed(world: Any, lines_of: Lines) -> None:
    keys = dict(world.bundle.keys)
    keys[world.policy.kid] = replace(keys[world.policy.kid], not_after="2026-01-31T09:00:06Z")
    report = verify_export(lines_of(12), TrustBundle("test", keys))
    assert kinds(report) == [(8, "not-entitled")]
    assert "was valid until 2026-01-31T09:00:06Z, not at 2026-01-31T09:00:08Z" in report.findings[0].message


some_bytes = st.binary(max_size=60)
some_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["entry", "checkpoint", "seq", "hash", "head", "format", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
).map(json.dumps)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_lines_whatever_make_it_raise_or_pass(data: st.DataObject, world: Any, lines_of: Lines) -> None:
    lines: list[bytes | str] = [*lines_of(12)]
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(lines) - 1))
        match data.draw(st.sampled_from(["bytes", "json", "delete", "move", "field"])):
            case "bytes":
                lines[at] = data.draw(some_bytes)
            case "json":
                lines[at] = data.draw(some_json)
            case "delete" if len(lines) > 1:
                del lines[at]
            case "move":
                lines.insert(data.draw(st.integers(0, len(lines) - 1)), lines.pop(at))
            case "field":
                lines[at] = _with_other_value(data, lines[at])
    report = verify_export(lines, world.bundle)
    if report.ok:  # only checkpoints may go, and nothing may be added or changed
        assert [line for line in lines if b'"entry"' in _bytes(line)] == lines_of(12)[1:11] + lines_of(12)[12:]
        assert json.loads(lines[0])["head"] == json.loads(lines_of(12)[0])["head"]


def _bytes(line: bytes | str) -> bytes:
    return line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line


def _with_other_value(data: st.DataObject, line: bytes | str) -> bytes | str:
    try:
        document = json.loads(line)
        part = data.draw(st.sampled_from([document, *(v for v in document.values() if isinstance(v, dict))]))
        name = data.draw(st.sampled_from([*sorted(part), "more"]))
    except (ValueError, AttributeError):
        return b"?"
    part[name] = json.loads(data.draw(some_json))
    return json.dumps(document)
