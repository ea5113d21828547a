"""Text that others wrote, as people can be shown it: nothing in it hides, moves or reorders what stands around it."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """The text with every control, direction and other invisible character shown as its escape; line feeds stay."""
    return "".join(
        c if c in "\n " or (c.isprintable() and unicodedata.category(c) not in _HIDDEN) else _escape(c) for c in text
    )


def one_line(text: str, limit: int) -> str:
    """The printable text on one line, cut at ``limit`` characters with a word on how many there are."""
    flat = printable(text).replace("\n", "\\n")
    return flat if len(flat) <= limit else f"{flat[:limit]}… ({len(flat)} characters)"


#: control, format (directions, zero width), surrogate, private use, unassigned, line and paragraph separators
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
