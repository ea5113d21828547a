"""Text that may be signed or hashed, and instants written as text.

One rule for every text this library signs, hashes or reads: no control character (Unicode category Cc) and
no lone surrogate, so that a line break cannot move the boundary between two signed attributes and every
text has one UTF-8 form.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UTC: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(?:Z|\+00:00)")
_RECORDED: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})\.[0-9]{6}Z")

Instant = tuple[str, str]
"""A point in time that compares correctly: the text to the second, the fraction without trailing zeros."""


def forbidden_character(text: str) -> str | None:
    """Name the first character of `text` that may not be signed, or None when all may."""
    if text.isprintable():  # no Cc and no surrogate is printable: the usual case, decided in C
        return None
    found = _FORBIDDEN.search(text)
    return f"U+{ord(found[0]):04X} at position {found.start()}" if found else None


def parse_instant(text: str) -> Instant:
    """Read an RFC 3339 instant in UTC (`Z` or `+00:00`), with up to nine digits of fraction.

    Raises ValueError for anything else, a leap second and an impossible date included.
    """
    match = _UTC.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown(text)} is not an RFC 3339 time in UTC")
    datetime.fromisoformat(match[1])
    return match[1], (match[2] or "").rstrip("0")


def is_recorded_at(text: str) -> bool:
    """Whether `text` is an instant in the one form the ledger writes: `2026-01-31T09:30:00.000000Z`."""
    match = _RECORDED.fullmatch(text)
    if match is None:
        return False
    try:
        datetime.fromisoformat(match[1])
    except ValueError:
        return False
    return True


def shown(text: str, limit: int = 80) -> str:
    """Quote `text` for a message: escaped, and cut so that hostile input cannot fill a log."""
    return repr(text) if len(text) <= limit else f"{text[:limit]!r} (cut, {len(text)} characters)"
