"""The entries that audit signs itself, for messages that cannot go on record as the event they say they are: pure.

Every message of every stream has its entry, so that a gap in a stream's sequence always means that one is missing. A
message that cannot be believed is wrapped whole (its body up to a limit); one that repeats an event is called that.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

import orjson

from countersign_contracts.envelope import Envelope, seal
from countersign_contracts.topology import REPEATED_TYPE, UNVERIFIED_TYPE
from countersign_ledger.signing import SigningKey

from .arrival import Believed, Doubt, Message, place_of

#: How much of an unbelievable message is kept; its SHA-256 is over all of it.
MAX_WRAPPED_BODY_BYTES = 64 * 1024
MAX_WRAPPED_HEADERS = 64
MAX_WRAPPED_HEADER_CHARACTERS = 1024
_MAX_REASON_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Known:
    """What is on record under an event id: enough to tell a repeat from a conflict."""

    seq: int
    type: str
    body_sha256: bytes
    place: str


def unverified_id(message: Message) -> str:
    """The event id of its entry, if it cannot be believed."""
    return f"{place_of(message)}.unverified"


def repeated_id(message: Message) -> str:
    """The event id of its entry, if it repeats an event that is on record."""
    return f"{place_of(message)}.repeated"


def unverified(message: Message, doubt: Doubt, *, key: SigningKey, at: datetime) -> Envelope:
    """Everything about a message that cannot be believed, and why."""
    kept = message.body[:MAX_WRAPPED_BODY_BYTES]
    body = {
        "code": doubt.code,
        "reason": _text(doubt.reason, _MAX_REASON_CHARACTERS),
        **_place(message),
        "headers": _headers(message.headers),
        "body": b64encode(kept).decode(),
        "body_bytes": len(message.body),
        "body_sha256": sha256(message.body).hexdigest(),
        "truncated": len(kept) < len(message.body),
    }
    return _sealed(body, UNVERIFIED_TYPE, unverified_id(message), message, key, at)


def repeated(arrival: Believed, first: Known, *, key: SigningKey, at: datetime) -> Envelope:
    """The same event once more, elsewhere in a stream: which, and where it is on record."""
    body = {
        "event_id": arrival.envelope.id,
        "first_seq": first.seq,
        "body_sha256": first.body_sha256.hex(),
        **_place(arrival.message),
    }
    return _sealed(body, REPEATED_TYPE, repeated_id(arrival.message), arrival.message, key, at)


def _sealed(body: dict[str, object], type: str, id: str, message: Message, key: SigningKey, at: datetime) -> Envelope:
    return seal(orjson.dumps(body), id=id, type=type, subject=place_of(message), time=at, key=key)


def _place(message: Message) -> dict[str, object]:
    return {
        "stream": message.stream,
        "epoch": message.epoch,
        "stream_seq": message.stream_seq,
        "subject": _text(message.subject, MAX_WRAPPED_HEADER_CHARACTERS),
    }


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    kept = list(headers.items())[:MAX_WRAPPED_HEADERS]
    return {_text(k, MAX_WRAPPED_HEADER_CHARACTERS): _text(v, MAX_WRAPPED_HEADER_CHARACTERS) for k, v in kept}


def _text(value: str, limit: int) -> str:
    """Cut, and with what is no Unicode (a header may hold any bytes) written as escapes."""
    return value[:limit].encode("utf-8", "backslashreplace").decode()
