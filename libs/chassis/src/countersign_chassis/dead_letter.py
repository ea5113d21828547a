"""The letter that a message becomes when its consumer gives up on it: the whole message, unless it is too large."""

from __future__ import annotations

from base64 import b64encode

import orjson

from countersign_contracts.control import DeadLettered
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now
from countersign_contracts.topology import Consumer

from .delivery import RawDelivery

#: What a dead letter keeps of a message's body and of its headers (as JSON), in bytes. More than an agent may send;
#: and the letter goes on record whole, and fits into the command that redrives it.
KEPT_BODY = 300_000
KEPT_HEADERS = 60_000


def dead_letter(spec: Consumer, delivery: RawDelivery, reason: str, *, with_body: bool = True) -> DeadLettered:
    """The letter about a delivery of the consumer ``spec``; without its body where that may not go on record."""
    headers = _kept(delivery.headers)
    body = delivery.body[:KEPT_BODY] if with_body else b""
    return DeadLettered(
        stream=spec.stream,
        consumer=spec.name,
        stream_seq=delivery.stream_seq,
        subject=delivery.subject,
        headers=headers,
        body=b64encode(body).decode(),
        tries=delivery.tries,
        reason=reason[:2000],
        at=now(),
        stored_at=delivery.stored_at,
        truncated=(body, headers) != (delivery.body, delivery.headers),
    )


def error_line(error: Exception) -> str:
    """The error as a dead letter's reason says it."""
    return error.detail if isinstance(error, CountersignError) else f"{type(error).__name__}: {error}"


def _kept(headers: dict[str, str]) -> dict[str, str]:
    """The first of them, as many as a dead letter keeps."""
    kept: dict[str, str] = {}
    left = KEPT_HEADERS
    for name, value in headers.items():
        left -= len(orjson.dumps([name, value]))
        if left < 0:
            break
        kept[name] = value
    return kept
