from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_ledger import (
    Checkpoint,
    Entry,
    ExportHeader,
    InvalidExport,
    encode_item,
    read_export,
    write_export,
)
from countersign_ledger.export import MAX_LINE_BYTES, decode_header, decode_item, encode_header

any_text = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20)
any_number = st.integers(0, 2**64 - 1)
any_hash = st.binary(min_size=32, max_size=32)
any_checkpoint = st.builds(
    Checkpoint,
    deployment=any_text,
    seq=any_number,
    hash=any_hash,
    time=any_text,
    keyid=any_text,
    signature=st.binary(max_size=80),
)
any_entry = st.builds(
    Entry,
    seq=st.integers(1, 2**64 - 1),
    stream=any_text,
    epoch=any_number,
    stream_seq=any_number,
    event_id=any_text,
    type=any_text,
    source=any_text,
    subject=any_text,
    time=any_text,
    keyid=any_text,
    signature=st.binary(max_size=80),
    recorded_at=st.datetimes().map(lambda moment: moment.isoformat(timespec="microseconds") + "Z"),
    body=st.binary(max_size=200),
    prev_hash=any_hash,
    hash=any_hash,
)


@st.composite
def headers(draw: st.DrawFn) -> ExportHeader:
    head = draw(any_checkpoint)
    first = draw(st.integers(1, head.seq + 1).filter(lambda n: n < 2**64))
    return ExportHeader(head.deployment, first, head.seq, draw(any_text), head)


@given(header=headers(), items=st.lists(any_entry | any_checkpoint, max_size=5))
def test_any_export_survives_writing_and_reading(header: ExportHeader, items: list[Entry | Checkpoint]) -> None:
    lines = list(write_export(header, items))
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    for form in (
        lines,
        [line.decode() for line in lines],
        io.BytesIO(b"".join(lines)),
        [line[:-1] for line in lines],
    ):
        read, following = read_export(form)
        assert read == header
        assert list(following) == items


def test_writing_and_reading_hold_one_line_at_a_time(lines_of: Callable[[int], list[bytes]]) -> None:
    header, items = read_export(lines_of(2))
    entry = next(items)
    asked: list[int] = []

    def endless() -> Iterator[Entry | Checkpoint]:
        for number in range(10**9):
            asked.append(number)
            yield entry

    lines = write_export(header, endless())
    assert [next(lines)[:9] for _ in range(3)] == [b'{"format"', b'{"entry":', b'{"entry":']
    assert asked == [0, 1]


def test_a_body_is_kept_byte_for_byte(world: Any) -> None:
    body = bytes(range(256)) + b"\xff\xfe{ "
    (entry,) = world.entries([world.record(1, body=body)])
    decoded = decode_item(encode_item(entry), 2)
    assert isinstance(decoded, Entry) and decoded.body == body


def test_text_is_written_as_itself(world: Any) -> None:
    (entry,) = world.entries([world.record(1, subject='Zoë "🎫" \\')])
    assert '"subject":"Zoë \\"🎫\\" \\\\"' in encode_item(entry).decode()


def test_a_header_that_contradicts_itself_is_not_written(world: Any) -> None:
    head = world.checkpoint(world.ledger(3)[-1])
    for first, last, deployment in (
        (1, 2, "test"),
        (1, 4, "test"),
        (5, 3, "test"),
        (0, 3, "test"),
        (1, 3, "prod"),
    ):
        with pytest.raises(InvalidExport, match="line 1"):
            write_export(ExportHeader(deployment, first, last, "", head), [])


ENTRY_TEXTS = ("stream", "event_id", "type", "source", "subject", "time", "keyid")
WRONG_FIELDS = [
    *(
        (name, value, "must be a string")
        for name in (*ENTRY_TEXTS, "recorded_at", "body", "hash")
        for value in (1, None)
    ),
    *((name, "a\tb", "contains the forbidden character U") for name in ENTRY_TEXTS),
    *((name, "\ud800", "contains the forbidden character U") for name in ENTRY_TEXTS),
    *((name, value, "must be a whole number") for name in ("seq", "epoch", "stream_seq") for value in ("1", 1.5, True)),
    *((name, value, "must be from") for name in ("seq", "epoch", "stream_seq") for value in (-1, 2**64)),
    ("seq", 0, "must be from 1"),
    *((name, value, "64 lowercase hex") for name in ("hash", "prev_hash") for value in ("", "0" * 63, "AB" * 32)),
    *((name, value, "base64") for name in ("signature", "body") for value in ("A", "QR==", "QQ", "Q Q=", "QQ==\u00a0")),
    ("recorded_at", "2026-01-31T09:00:00Z", "microseconds"),
    ("recorded_at", "2026-13-31T09:00:00.000000Z", "microseconds"),
    ("more", 1, "is not a known field"),
]


@pytest.mark.parametrize(("name", "value", "complaint"), WRONG_FIELDS)
def test_a_wrong_field_of_an_entry_is_named(
    name: str, value: object, complaint: str, lines_of: Callable[[int], list[bytes]]
) -> None:
    document = json.loads(lines_of(2)[1])
    document["entry"][name] = value
    with pytest.raises(InvalidExport, match=f"^line 17: entry\\.{name}: .*{complaint}") as caught:
        decode_item(json.dumps(document), 17)
    assert caught.value.line == 17


def test_a_missing_field_is_named(lines_of: Callable[[int], list[bytes]]) -> None:
    header, entry, *_ = map(json.loads, lines_of(2))
    for name in entry["entry"]:
        fewer = {k: v for k, v in entry["entry"].items() if k != name}
        with pytest.raises(InvalidExport, match=rf"entry\.{name}: is missing"):
            decode_item(json.dumps({"entry": fewer}), 2)
    for name in set(header) - {"format", "version"}:
        with pytest.raises(InvalidExport, match=f"line 1: {name}: is missing"):
            decode_header(json.dumps({k: v for k, v in header.items() if k != name}))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"\n", "is empty"),
        (b"\x89PNG", "is not UTF-8"),
        ("{}".encode("utf-16"), "is not UTF-8"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"entry", "is not JSON"),
        (b'{"entry": {}', "is not JSON"),
        (b"[1]", "must be a JSON object, not an array"),
        (b"1", "must be a JSON object, not a number"),
        (b'{"entry": {}, "entry": {}}', "has the field 'entry' twice"),
        (b'{"entry": {"seq": 1, "seq": 1}}', "has the field 'seq' twice"),
        (b'{"entry": {"seq": NaN}}', "contains NaN"),
        (b'{"entry": {"seq": ' + b"9" * 10_000 + b"}}", "too large"),
        (b'{"entry":' + b"[" * 1_000_000, "nested too deeply|is not JSON"),
        (b'{"entry": []}', "entry: must be an object, not an array"),
        (b'{"checkpoint": 1}', "checkpoint: must be an object"),
        (b'{"checkpoint": {}}', r"checkpoint\.deployment: is missing"),
        (b"{}", "must have exactly one field, entry or checkpoint"),
        (b'{"entry": {}, "checkpoint": {}}', "must have exactly one field"),
        (b'{"format": "countersign-ledger-export"}', "must have exactly one field"),
        (b" " * (MAX_LINE_BYTES + 1), "is longer than"),
        (b" " * MAX_LINE_BYTES, "is empty"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_what_is_no_line_is_refused(line: bytes, complaint: str) -> None:
    with pytest.raises(InvalidExport, match=complaint):
        decode_item(line, 2)
    with pytest.raises(InvalidExport):
        decode_header(line)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format": "tar"}, "is not the header of a ledger export"),
        ({"version": 2}, "version: is '2'; only 1 is known"),
        ({"version": 1.0}, "version: is '1.0'; only 1 is known"),
        ({"version": True}, "version: is 'True'; only 1 is known"),
        ({"first_seq": 0}, "first_seq: must be from 1"),
        ({"last_seq": -1}, "last_seq: must be from 0"),
        ({"deployment": []}, "deployment: must be a string, not an array"),
        ({"head": None}, "head: must be an object"),
        ({"head": {}}, r"head\.deployment: is missing"),
        ({"signed": True}, "signed: is not a known field"),
    ],
)
def test_a_wrong_header_is_refused_by_field(
    changes: dict[str, Any], complaint: str, lines_of: Callable[[int], list[bytes]]
) -> None:
    with pytest.raises(InvalidExport, match=f"^line 1: {complaint}"):
        read_export([json.dumps({**json.loads(lines_of(2)[0]), **changes})])


def test_an_empty_file_is_no_export() -> None:
    with pytest.raises(InvalidExport, match="line 1: is empty"):
        read_export([])


def test_a_stream_with_one_endless_line_is_read_in_bounded_memory(
    lines_of: Callable[[int], list[bytes]],
) -> None:
    class Endless(io.RawIOBase):
        """A header, one line of 100 MiB, and an entry; remembers the largest piece it was asked for."""

        largest = 0

        def __init__(self) -> None:
            self.head, self.entry, *_ = lines_of(2)
            self.left = 100 * 1024 * 1024
            self.state = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            assert size is not None and 0 < size <= MAX_LINE_BYTES + 1
            if self.state == 0:
                self.state = 1
                return self.head
            if self.left:
                size = min(size, self.left)
                self.left -= size
                return b" " * (size - 1) + (b" " if self.left else b"\n")
            self.state += 1
            return self.entry if self.state == 2 else b""

    _, items = read_export(Endless())
    with pytest.raises(InvalidExport, match="line 2: is longer than"):
        next(items)


def test_the_header_of_an_empty_ledger_is_written(world: Any) -> None:
    head = Checkpoint.make(world.audit, deployment="test", seq=0, hash=bytes(32), time="t")
    header = ExportHeader("test", 1, 0, "t", head)
    assert decode_header(encode_header(header)) == header
