"""Text of others as Slack can show it: nothing in it becomes markup, mentions anybody, hides or leaves its place. Pure.

Slack's limits: 3000 characters a text, 150 a header; they count after escaping.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from countersign_contracts.plain_text import one_line, printable

_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
#: More marks on one letter than any language needs cover what stands above.
_MARKS = 2
#: Looks like the sign that would end inline code, and does not.
_GRAVE = "\N{MODIFIER LETTER GRAVE ACCENT}"


def escape(text: str) -> str:
    """With Slack's three control characters as entities: no link, no mention, no date can come out of it."""
    return "".join(_ESCAPES.get(c, c) for c in text)


def code(text: str, limit: int = 300) -> str:
    """Others' text on one line, as inline code; cut with a word on how long it is. ``limit`` counts after escaping."""
    shown = _cut(_units(text.replace("\n", "\\n"), _plain_escape), limit, len(text))
    return f"`{shown or ' '}`"


def plain(text: str, limit: int = 600) -> str:
    """Our own words, in which others' may stand, on one line: no mention, no link; inline code stays inline code."""
    return _cut(_units(text.replace("\n", "\\n"), lambda c: c if c == "`" else _plain_escape(c)), limit, len(text))


def unmarked(text: str, limit: int = 400) -> str:
    """Our own words where Slack shows no markup: on one line, with nothing that hides."""
    return one_line(text.replace("`", ""), limit)


def when(at: datetime) -> str:
    """A time, in the reader's zone."""
    return f"<!date^{int(at.timestamp())}^{{date_short_pretty}} {{time}}|{at:%Y-%m-%d %H:%M} UTC>"


def exact_json(value: Any) -> list[str]:
    """A JSON value as text that anybody can copy: valid JSON for exactly this value, in units that must not be cut."""
    return list(_units(json.dumps(value, ensure_ascii=False, indent=2), _json_escape))


def typable_json(value: Any) -> str:
    """A JSON value on one line, to be edited in a field: valid JSON for exactly this value, whatever a client makes of
    signs that mean something to Slack."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(_json_escape(c) if c in _ESCAPES or printable(c) != c else c for c in text)


def cut_json(value: Any, limit: int) -> str:
    """A JSON value on one line, cut with a word on how long it is."""
    text = json.dumps(value, ensure_ascii=False)
    return _cut(_units(text, _json_escape), limit, len(text))


def pieces(units: Iterable[str], limit: int) -> list[str]:
    """The units put together in texts of at most ``limit`` characters, broken at a line's end where there is one."""
    found, piece, size, line_end = [], [""], 0, 0
    for unit in units:
        while size + len(unit) > limit:
            at = line_end if line_end else len(piece)
            found.append("".join(piece[:at]).rstrip("\n"))
            piece = piece[at:]
            size, line_end = sum(map(len, piece)), 0
        piece.append(unit)
        size += len(unit)
        if unit == "\n":
            line_end = len(piece)
    return [*found, "".join(piece)]


def _cut(units: Iterable[str], limit: int, length: int) -> str:
    shown: list[str] = []
    size = 0
    for unit in units:
        size += len(unit)
        if size > limit:
            return f"{''.join(shown)}… ({length:,} characters)"
        shown.append(unit)
    return "".join(shown)


def _units(text: str, escaped: Any) -> Iterator[str]:
    """Each character as it is shown: itself, an entity, or its escape where it would hide or end something."""
    marks = 0
    for c in text:
        marks = marks + 1 if unicodedata.category(c).startswith("M") else 0
        if c == "`" or marks > _MARKS or printable(c) != c:
            yield escaped(c)
        else:
            yield _ESCAPES.get(c, c)


def _plain_escape(c: str) -> str:
    if c == "`":
        return _GRAVE
    return f"\\x{ord(c):02x}" if ord(c) < 256 else c.encode("unicode_escape").decode()


def _json_escape(c: str) -> str:
    if ord(c) > 0xFFFF:
        high, low = divmod(ord(c) - 0x10000, 0x400)
        return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
    return f"\\u{ord(c):04x}"
