"""Base64url without padding (RFC 7515 section 2): the parts of our tokens."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode


def encode(raw: bytes) -> bytes:
    """The text of ``raw``."""
    return urlsafe_b64encode(raw).rstrip(b"=")


def decode(part: str) -> bytes:
    """The bytes of ``part``, in its one canonical form; raises ValueError for another spelling of the same bytes."""
    raw = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if encode(raw) != part.encode("ascii"):
        raise ValueError("not canonical base64url")
    return raw
