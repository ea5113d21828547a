"""Ledger exports: the file that proves the ledger to a stranger, written and read line by line.

The format, version 1. A file of lines, each one JSON object in UTF-8 (RFC 8259) ended by a line feed; no
blank lines, no byte order mark, at most 16 MiB a line. Exactly the fields named here are present, in any
order, none twice. Text contains no control characters and no lone surrogates. `hash` and `prev_hash` are 64
lowercase hexadecimal digits; `signature` and `body` are base64 with padding (RFC 4648 section 4), in its
canonical spelling; all numbers are integers below 2**64.

The first line is the header:

    {"format": "countersign-ledger-export", "version": 1, "deployment": text, "first_seq": number,
     "last_seq": number, "exported_at": text, "head": CHECKPOINT}

`head` is the checkpoint for exactly `last_seq`. Nothing else in the header is signed, so believe only
`head`. An empty ledger has `first_seq` 1, `last_seq` 0 and a `head` for sequence 0 with a hash of 64 zeros.
`first_seq` above 1 makes a partial export, whose first `prev_hash` has to be believed, or compared with a
checkpoint for the entry before.

Each further line is an entry, in ascending `seq`, or a checkpoint, after the entry it is for:

    {"entry": {"seq", "stream", "epoch", "stream_seq", "event_id", "type", "source", "subject", "time",
               "keyid", "signature", "recorded_at", "body", "prev_hash", "hash"}}
    {"checkpoint": CHECKPOINT}
    CHECKPOINT = {"deployment", "seq", "hash", "time", "keyid", "signature"}

`seq`, `epoch` and `stream_seq` are numbers, the rest is text. `recorded_at` is
`YYYY-MM-DDTHH:MM:SS.ffffffZ`. What an entry's `hash` is over is in `entry.entry_hash`, what its `signature`
is over in `signing.event_signing_bytes`, a checkpoint's in `checkpoint.checkpoint_signing_bytes`.

Not here: whether any of it is true (`verify`). A writer writes what is in the ledger, tampered with or not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from .checkpoint import Checkpoint
from .entry import Entry
from .errors import InvalidCheckpoint, InvalidExport
from .fields import FieldError, Fields, parse_object, to_base64
from .text import is_recorded_at, shown

FORMAT: Final = "countersign-ledger-export"
VERSION: Final = 1
MAX_LINE_BYTES: Final = 16 * 1024 * 1024

Item = Entry | Checkpoint
"""What follows the header."""

_HEADER_FIELDS: Final = frozenset({"format", "version", "deployment", "first_seq", "last_seq", "exported_at", "head"})
_ENTRY_FIELDS: Final = frozenset(Entry.__slots__)
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class ExportHeader:
    """The first line of an export. `exported_at` (RFC 3339, UTC) is information only: it is not signed."""

    deployment: str
    first_seq: int
    last_seq: int
    exported_at: str
    head: Checkpoint


def write_export(header: ExportHeader, items: Iterable[Item]) -> Iterator[bytes]:
    """Yield the lines of an export, each with its line feed.

    `items` are the entries in order, each checkpoint after the entry it is for. Raises InvalidExport,
    before anything is yielded, if the header contradicts itself; the items are not judged.
    """
    first = encode_header(header)

    def lines() -> Iterator[bytes]:
        yield first
        for item in items:
            yield encode_item(item)

    return lines()


def read_export(lines: Iterable[bytes | str]) -> tuple[ExportHeader, Iterator[Item]]:
    """Read an export strictly: its header, and an iterator over what follows. Both raise InvalidExport.

    A binary stream is best given as it is: it is read in lines of bounded length.
    """
    numbered = enumerate(bounded_lines(lines), start=1)
    _, line = next(numbered, (1, b""))
    return decode_header(line), (decode_item(line, number) for number, line in numbered)


def encode_header(header: ExportHeader) -> bytes:
    """The header's line. Raises InvalidExport if `head` is not for `last_seq` of this deployment."""
    if header.head.seq != header.last_seq or header.head.deployment != header.deployment:
        raise InvalidExport(1, f"head must be the checkpoint for entry {header.last_seq} of {header.deployment}")
    if header.first_seq < 1 or header.last_seq < header.first_seq - 1:
        raise InvalidExport(1, f"entries {header.first_seq} to {header.last_seq} are no range")
    return _line(
        {
            "format": FORMAT,
            "version": VERSION,
            "deployment": header.deployment,
            "first_seq": header.first_seq,
            "last_seq": header.last_seq,
            "exported_at": header.exported_at,
            "head": header.head.to_dict(),
        }
    )


def encode_item(item: Item) -> bytes:
    """The line of an entry or a checkpoint."""
    if isinstance(item, Checkpoint):
        return _line({"checkpoint": item.to_dict()})
    return _line(
        {
            "entry": {
                "seq": item.seq,
                "stream": item.stream,
                "epoch": item.epoch,
                "stream_seq": item.stream_seq,
                "event_id": item.event_id,
                "type": item.type,
                "source": item.source,
                "subject": item.subject,
                "time": item.time,
                "keyid": item.keyid,
                "signature": to_base64(item.signature),
                "recorded_at": item.recorded_at,
                "body": to_base64(item.body),
                "prev_hash": item.prev_hash.hex(),
                "hash": item.hash.hex(),
            }
        }
    )


def decode_header(line: bytes | str, number: int = 1) -> ExportHeader:
    """Read the header's line. Raises InvalidExport. Verifies nothing."""
    try:
        document = _document(line)
        if document.get("format") != FORMAT:
            raise FieldError(f"is not the header of a ledger export (no format {FORMAT!r})")
        if (version := document.get("version")) != VERSION or type(version) is not int:
            raise FieldError(f"version: is {shown(str(version))}; only {VERSION} is known")
        fields = Fields(document, _HEADER_FIELDS)
        return ExportHeader(
            deployment=fields.text("deployment"),
            first_seq=fields.number("first_seq", at_least=1),
            last_seq=fields.number("last_seq"),
            exported_at=fields.text("exported_at"),
            head=_checkpoint(fields.raw("head"), "head"),
        )
    except FieldError as error:
        raise InvalidExport(number, str(error)) from None


def decode_item(line: bytes | str, number: int) -> Item:
    """Read the line of an entry or a checkpoint; InvalidExport names line `number`. Verifies nothing."""
    try:
        document = _document(line)
        if document.keys() == {"entry"}:
            return _entry(document["entry"])
        if document.keys() == {"checkpoint"}:
            return _checkpoint(document["checkpoint"], "checkpoint")
        raise FieldError("must have exactly one field, entry or checkpoint")
    except FieldError as error:
        raise InvalidExport(number, str(error)) from None


def bounded_lines(lines: Iterable[bytes | str]) -> Iterator[bytes | str]:
    """The lines themselves; a stream is read so that one endless line cannot fill the memory.

    Of a stream's line that is too long only the beginning is yielded, itself too long for `decode_item`,
    and the rest skipped.
    """
    readline = getattr(lines, "readline", None)
    if readline is None:
        yield from lines
        return
    while line := readline(MAX_LINE_BYTES + 1):
        yield line
        newline = "\n" if isinstance(line, str) else b"\n"
        while line and not line.endswith(newline):
            line = readline(MAX_LINE_BYTES)


def _line(document: dict[str, object]) -> bytes:
    return f"{_ENCODE(document)}\n".encode()


def _document(line: bytes | str) -> dict[str, object]:
    if len(line) > MAX_LINE_BYTES:
        raise FieldError(f"is longer than {MAX_LINE_BYTES} bytes")
    return parse_object(line)


def _checkpoint(value: object, name: str) -> Checkpoint:
    if not isinstance(value, dict):
        raise FieldError(f"{name}: must be an object")
    try:
        return Checkpoint.from_dict(value)
    except InvalidCheckpoint as error:
        raise FieldError(f"{name}.{str(error).removeprefix('checkpoint: ')}") from None


def _entry(value: object) -> Entry:
    fields = Fields(value, _ENTRY_FIELDS, path="entry.")
    recorded_at = fields.text("recorded_at")
    if not is_recorded_at(recorded_at):
        raise fields.wrong("recorded_at", "must be RFC 3339 in UTC with microseconds and Z")
    return Entry(
        seq=fields.number("seq", at_least=1),
        stream=fields.text("stream"),
        epoch=fields.number("epoch"),
        stream_seq=fields.number("stream_seq"),
        event_id=fields.text("event_id"),
        type=fields.text("type"),
        source=fields.text("source"),
        subject=fields.text("subject"),
        time=fields.text("time"),
        keyid=fields.text("keyid"),
        signature=fields.base64("signature"),
        recorded_at=recorded_at,
        body=fields.base64("body"),
        prev_hash=fields.digest("prev_hash"),
        hash=fields.digest("hash"),
    )
