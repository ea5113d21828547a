"""Signatures after the Standard Webhooks specification 1.0: HMAC-SHA256 over id, timestamp and body. Pure."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Sequence

PREFIX = "whsec_"
#: The specification's bounds.
MIN_KEY_BYTES, MAX_KEY_BYTES = 24, 64


class NoSigningKey(ValueError):
    """The text is no signing secret; the message says why and never shows it."""


def keys_in(text: str) -> tuple[bytes, ...]:
    """The keys of a secret's file, one a line as ``whsec_<base64>``, the newest first.

    All of them sign: a receiver goes from the old one to the new one when it likes. Raises :class:`NoSigningKey`.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise NoSigningKey("it is empty")
    return tuple(_key(line, number) for number, line in enumerate(lines, 1))


def _key(line: str, number: int) -> bytes:
    if not line.startswith(PREFIX):
        raise NoSigningKey(f"line {number} does not begin with `{PREFIX}`")
    try:
        key = b64decode(line.removeprefix(PREFIX), validate=True)
    except (NotBase64, ValueError):
        raise NoSigningKey(f"line {number} has no base64 after `{PREFIX}`") from None
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise NoSigningKey(f"line {number} has {len(key)} bytes; {MIN_KEY_BYTES} to {MAX_KEY_BYTES} are right")
    return key


def message_id(event_id: str) -> str:
    """The ``webhook-id`` of an event, the same at every try. Unlike events' ids it may hold no full stop."""
    return f"evt_{hashlib.sha256(event_id.encode()).hexdigest()[:32]}"


def signed_headers(keys: Sequence[bytes], message: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers; ``timestamp`` in Unix seconds, of this try."""
    content = f"{message}.{timestamp}.".encode() + body
    signatures = (b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys)
    return {
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
