"""Sealed arguments: what stands in an action for a value that only the executor may read. Pure; the keys are elsewhere.

A sensitive value travels and rests as ``{"$sealed": <box>, "mark": "hmac-sha256:<hex>"}``. The box holds the value and
what it was sealed for, so that it opens nowhere else. The mark is keyed: equal values of one argument have equal marks,
and nobody without the gateway's key can guess a value by it. ``{"$sealed": null}`` stands for a value that was not kept
at all: the tool, or the argument, is not declared, so nobody said whether it is sensitive, and nothing executes.

The key ``$sealed`` is Countersign's own: no agent may send it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from .canonical import canonical
from .errors import Malformed

KEY = "$sealed"
MARK_PREFIX = "hmac-sha256:"
#: How much of a mark people are shown.
_SHOWN_DIGITS = 8

#: JSON Schema (2020-12) of a sealed value.
SEALED_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": [KEY, "mark"],
    "additionalProperties": False,
    "properties": {
        KEY: {"type": "string", "pattern": "^[A-Za-z0-9_-]{64,}$"},
        "mark": {"type": "string", "pattern": f"^{MARK_PREFIX}[0-9a-f]{{64}}$"},
    },
}


@dataclass(frozen=True, slots=True)
class Place:
    """What a value is sealed for. ``path`` is the argument's JSON Pointer (RFC 6901) below `args`."""

    request_id: str
    agent_id: str
    tool: str
    path: str


def pointer(*names: str) -> str:
    """The JSON Pointer to a property (RFC 6901)."""
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)


def box_text(value: Any, place: Place) -> bytes:
    """What is sealed: the value, and what it is for."""
    return orjson.dumps({**asdict(place), "value": value})


def value_for(text: bytes, place: Place) -> Any:
    """The value in an opened box; raises :class:`Malformed`, without the value, if it was sealed for another place."""
    try:
        found = orjson.loads(text)
        value = found.pop("value")
        sealed_for = Place(**found)
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        raise Malformed("what was sealed is no value of an action") from None
    wrong = [name for name, wanted in asdict(place).items() if getattr(sealed_for, name) != wanted]
    if wrong:
        raise Malformed(f"it was sealed for another {', '.join(wrong)}")
    return value


def mark_text(value: Any, place: Place) -> bytes:
    """What a mark is made of: the value, the tool and the argument, whoever asks and whenever.

    Raises :class:`Malformed`, without the value, if that has no canonical form.
    """
    try:
        return canonical({"path": place.path, "tool": place.tool, "value": value})
    except Malformed:
        message = "has no canonical JSON form: text must be Unicode, and large numbers be sent as strings"
        raise Malformed(f"`{place.path}` {message}") from None


def sealed(box: str, mark: bytes) -> dict[str, Any]:
    """What travels instead of the value."""
    return {KEY: box, "mark": f"{MARK_PREFIX}{mark.hex()}"}


def withheld() -> dict[str, Any]:
    """What travels instead of a value that nobody declared."""
    return {KEY: None}


def box_of(value: Any) -> str | None:
    """The box of a sealed value; None for everything else."""
    if isinstance(value, Mapping) and value.keys() == {KEY, "mark"} and isinstance(value[KEY], str):
        return str(value[KEY])
    return None


def shown(value: Any) -> Any:
    """A JSON value as people see it: sealed ones by the beginning of their mark."""
    if isinstance(value, Mapping):
        if KEY not in value:
            return {name: shown(each) for name, each in value.items()}
        if value[KEY] is None:
            return "[withheld] the tool declares no such argument"
        digits = str(value.get("mark", "")).removeprefix(MARK_PREFIX)[:_SHOWN_DIGITS]
        return f"[sensitive] {digits}: cannot be shown here, equal values have equal digits"
    return [shown(each) for each in value] if isinstance(value, list) else value


def has_sealed(value: Any) -> bool:
    """Whether anything in a JSON value is sealed or withheld."""
    if isinstance(value, Mapping):
        return KEY in value or any(map(has_sealed, value.values()))
    return isinstance(value, list) and any(map(has_sealed, value))
