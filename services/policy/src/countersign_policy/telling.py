"""What people are told of an action before they decide on it: what it touches and what it will do. Pure.

Sensitive arguments are shown by their marks. Text of the agent's is passed on as it is, and cut: whoever shows it makes
it safe to show.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from countersign_contracts import sealed
from countersign_contracts.templates import fill, placeholders, shown

#: The longest value, and the longest text of all, in characters.
MAX_VALUE, MAX_TEXT = 1000, 4000


def told(template: str, args: Mapping[str, Any]) -> str | None:
    """The template filled in; none where the tool has none.

    What is cut says how long it was and its SHA-256, so that different actions do not look alike.
    """
    if not template:
        return None
    values = {
        name: _cut(shown(sealed.shown(args[name])), MAX_VALUE) if name in args else f"(no {name})"
        for name in placeholders(template)
    }
    return _cut(fill(template, values), MAX_TEXT)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    # arguments have a canonical form, so text is Unicode and can be encoded
    return f"{text[:limit]}… ({len(text)} characters, SHA-256 {sha256(text.encode()).hexdigest()})"
