"""Text that others wrote, as people can be shown it: nothing in it hides, moves or reorders what stands around it."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """The text with every control, direction and other invisible character shown as its escape; line feeds stay."""
    return "".join(
        c
        if c in "\n " or (c.isprintable() and unicodedata.category(c) not in _HIDDEN and c not in _BLANK)
        else _escape(c)
        for c in text
    )


def one_line(text: str, limit: int) -> str:
    """The printable text on one line, cut at ``limit`` characters with a word on how many there are."""
    flat = printable(text).replace("\n", "\\n")
    return flat if len(flat) <= limit else f"{flat[:limit]}… ({len(flat)} characters)"


#: control, format (directions, zero width), surrogate, private use, unassigned, line and paragraph separators
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
#: Letters, marks and signs that show nothing: fillers, joiners, variation selectors (DerivedCoreProperties,
#: Default_Ignorable_Code_Point), and the blank pattern of Braille.
_BLANK = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),
            *range(0xE0100, 0xE01F0),
        ),
    )
)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
