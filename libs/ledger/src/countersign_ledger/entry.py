"""Ledger entries and the chain they form.

An entry is an event as received, the place it was received from, and the hash of the entry before. Changing
any field of any entry changes its hash and so every later one. Not here: whether the event's signature
holds (`trust`, `signing`), and where entries are stored.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from .errors import InvalidEntry
from .fields import U64_MAX
from .signing import event_signing_bytes
from .text import forbidden_character, is_recorded_at

GENESIS: Final = bytes(32)
"""The `prev_hash` of the first entry."""

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""No larger body can be recorded: it would not fit a line of an export. (NATS carries 1 MiB by default.)"""

MAX_ATTRIBUTES_BYTES: Final = 64 * 1024
"""Everything of an entry but its body, in the form that is hashed, is at most this long."""

_TAG: Final = b"countersign-ledger-entry-v1\x00"
_SHA256: Final = hashlib.sha256
_U32: Final = struct.Struct(">I").pack
_LINK: Final = struct.Struct(">32sQ").pack
_PLACE: Final = struct.Struct(">QQ").pack


@dataclass(frozen=True, slots=True)
class Record:
    """What audit puts on record: an event, where and when it was received. An `Entry` not yet in the chain.

    `epoch` is the unix time in seconds at which the stream was created: a wiped and re-created stream has
    another one. `stream_seq` is the event's sequence in that stream. `event_id`, `type`, `source`,
    `subject`, `time`, `keyid` and `signature` are the CloudEvents attributes as received; `body` is the
    payload as received. `recorded_at` is RFC 3339 in UTC with six digits of fraction and `Z`.
    """

    stream: str
    epoch: int
    stream_seq: int
    event_id: str
    type: str
    source: str
    subject: str
    time: str
    keyid: str
    signature: bytes
    recorded_at: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A record in its place: `seq` counts from 1, `prev_hash` is the hash of the entry before it."""

    seq: int
    stream: str
    epoch: int
    stream_seq: int
    event_id: str
    type: str
    source: str
    subject: str
    time: str
    keyid: str
    signature: bytes
    recorded_at: str
    body: bytes
    prev_hash: bytes
    hash: bytes

    def compute_hash(self) -> bytes:
        """What `hash` must be, given all the other fields. Raises InvalidEntry."""
        return entry_hash(
            self.prev_hash,
            self.seq,
            self.stream,
            self.epoch,
            self.stream_seq,
            self.event_id,
            self.type,
            self.source,
            self.subject,
            self.time,
            self.keyid,
            self.signature,
            self.recorded_at,
            _SHA256(self.body).digest(),
        )

    def signing_bytes(self) -> bytes:
        """What `signature` must be over. Raises InvalidAttribute."""
        return event_signing_bytes(
            id=self.event_id,
            type=self.type,
            source=self.source,
            subject=self.subject,
            time=self.time,
            keyid=self.keyid,
            body=self.body,
        )


def entry_hash(
    prev_hash: bytes,
    seq: int,
    stream: str,
    epoch: int,
    stream_seq: int,
    event_id: str,
    type: str,
    source: str,
    subject: str,
    time: str,
    keyid: str,
    signature: bytes,
    recorded_at: str,
    body_sha256: bytes,
) -> bytes:
    """SHA-256 over the tag `countersign-ledger-entry-v1` and a zero byte, then the arguments in their order.

    `prev_hash` is its 32 bytes; integers are 8 bytes big-endian; text is UTF-8; text and the remaining
    bytes are preceded by their length in 4 bytes big-endian. Raises InvalidEntry for what does not fit this
    form.
    """
    try:
        parts = [_TAG, _LINK(prev_hash, seq), _U32(len(a := stream.encode())), a, _PLACE(epoch, stream_seq)]
        for text in (event_id, type, source, subject, time, keyid):
            parts += (_U32(len(a := text.encode())), a)
        parts += (_U32(len(signature)), signature, _U32(len(a := recorded_at.encode())), a)
        parts += (_U32(len(body_sha256)), body_sha256)
        form = b"".join(parts)
    except (struct.error, UnicodeEncodeError) as error:
        raise InvalidEntry(f"entry {seq} cannot be hashed: {error}") from None
    if len(prev_hash) != 32 or len(body_sha256) != 32:
        raise InvalidEntry(f"entry {seq} cannot be hashed: prev_hash and body_sha256 must be 32 bytes each")
    if len(form) > MAX_ATTRIBUTES_BYTES:
        raise InvalidEntry(f"entry {seq} cannot be hashed: its attributes exceed {MAX_ATTRIBUTES_BYTES} bytes")
    return _SHA256(form).digest()


class Chain:
    """The end of a ledger, to which records are appended.

    It holds no entries. Make one from the last committed entry, append a batch, commit the batch; if the
    commit fails, throw the chain away with it.
    """

    __slots__ = ("head_hash", "head_seq")

    def __init__(self, head_seq: int = 0, head_hash: bytes = GENESIS) -> None:
        """Continue after entry `head_seq` of hash `head_hash`, or begin. Raises InvalidEntry."""
        if not 0 <= head_seq < U64_MAX or len(head_hash) != 32:
            raise InvalidEntry("a chain's head is a sequence from 0 and a hash of 32 bytes")
        if (head_seq == 0) != (head_hash == GENESIS):
            raise InvalidEntry("a chain begins at sequence 0 with the genesis hash, and only there")
        self.head_seq = head_seq
        self.head_hash = head_hash

    def append(self, record: Record) -> Entry:
        """Seal `record` as the next entry and make it the head. Raises InvalidEntry and changes nothing."""
        seq, prev_hash = self.head_seq + 1, self.head_hash
        _require_recordable(seq, record)
        sealed = entry_hash(
            prev_hash,
            seq,
            record.stream,
            record.epoch,
            record.stream_seq,
            record.event_id,
            record.type,
            record.source,
            record.subject,
            record.time,
            record.keyid,
            record.signature,
            record.recorded_at,
            _SHA256(record.body).digest(),
        )
        self.head_seq, self.head_hash = seq, sealed
        return Entry(
            seq,
            record.stream,
            record.epoch,
            record.stream_seq,
            record.event_id,
            record.type,
            record.source,
            record.subject,
            record.time,
            record.keyid,
            record.signature,
            record.recorded_at,
            record.body,
            prev_hash,
            sealed,
        )


def _require_recordable(seq: int, record: Record) -> None:
    """Refuse now what a verifier would refuse later."""
    if not is_recorded_at(record.recorded_at):
        raise InvalidEntry(f"entry {seq}: recorded_at must be RFC 3339 in UTC with microseconds and Z")
    if len(record.body) > MAX_BODY_BYTES:
        raise InvalidEntry(f"entry {seq}: the body exceeds {MAX_BODY_BYTES} bytes")
    texts = (
        record.stream,
        record.event_id,
        record.type,
        record.source,
        record.subject,
        record.time,
        record.keyid,
    )
    if (forbidden := forbidden_character("".join(texts))) is not None:
        raise InvalidEntry(f"entry {seq}: an attribute contains the forbidden character {forbidden.split(' ')[0]}")
