"""Keys from the bytes that a terminal sends (VT100 and what followed it): pure."""

from __future__ import annotations

import codecs

#: What follows ESC. Terminals send the letters after `[` or, in application mode, after `O`.
_SEQUENCES = {
    **{
        f"{lead}{letter}": key
        for lead in "[O"
        for letter, key in zip("ABCDHF", ("up", "down", "right", "left", "home", "end"), strict=True)
    },
    "[5~": "pgup",
    "[6~": "pgdn",
    "[1~": "home",
    "[4~": "end",
    "[7~": "home",
    "[8~": "end",
    "[3~": "delete",
}
_CONTROLS = {
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\t": "tab",
    "\x03": "quit",
    "\x04": "quit",
    "\x15": "clear",
    "\x0c": "redraw",
}
#: No sequence that is looked for is longer; a longer one is passed over whole.
_LONGEST = 16


class Keys:
    """Turns bytes into keys, over as many reads as they take.

    A key is its character, or one of the names above, `esc` among them.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""

    @property
    def unfinished(self) -> bool:
        """Whether more must come, or :meth:`flush`, before it is clear what was pressed."""
        return bool(self._pending)

    def feed(self, data: bytes) -> list[str]:
        """The keys that are complete now."""
        self._pending += self._decoder.decode(data)
        found = []
        while self._pending:
            key, length = _first(self._pending)
            if not length:
                break
            self._pending = self._pending[length:]
            if key:
                found.append(key)
        return found

    def flush(self) -> list[str]:
        """Nothing more came: an ESC that stands alone is the key."""
        pending, self._pending = self._pending, ""
        return ["esc"] if pending.startswith("\x1b") else []


def _first(text: str) -> tuple[str, int]:
    """The first key and how many characters it takes; 0 while it is not complete, no key for what means nothing."""
    if text[0] != "\x1b":
        key = _CONTROLS.get(text[0], text[0] if text[0].isprintable() else "")
        return key, 1
    if len(text) == 1:
        return "", 0
    if text[1] not in "[O":
        return "esc", 1
    for length in range(3, min(len(text), _LONGEST) + 1):
        if "\x40" <= text[length - 1] <= "\x7e":
            return _SEQUENCES.get(text[1:length], ""), length
    return "", _LONGEST if len(text) >= _LONGEST else 0
