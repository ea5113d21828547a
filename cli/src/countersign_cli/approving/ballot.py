"""What a vote says besides yes or no, read from what was typed: changed arguments, and what is allowed ahead."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from ..output import Misused

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_SPAN = re.compile(r"^([1-9][0-9]{0,6})\s*(s|m|min|h|d)$")
_CLOCK = re.compile(r"^([01]?[0-9]|2[0-3]):([0-5][0-9])$")
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")


def changes_of(changed: Sequence[str], dropped: Sequence[str]) -> dict[str, Any] | None:
    """The changed arguments from ``name=JSON`` and names to leave out; None if there are none.

    Raises :class:`Misused` saying what is wrong and how it is written.
    """
    changes: dict[str, Any] = {}
    for text in changed:
        name, equals, value = text.partition("=")
        _unknown(changes, name, text)
        if not equals:
            raise Misused(f"--change {text}: it is written name=value, the value as JSON")
        if not value:
            raise Misused(f"--change {text}: the value is missing; to leave the argument out: --drop {name}")
        try:
            changes[name] = json.loads(value, parse_constant=_no_constant)
        except ValueError:
            raise Misused(
                f"--change {text}: {value!r} is not JSON; a text is written in quotes, '{name}={json.dumps(value)}'"
            ) from None
        if changes[name] is None:
            raise Misused(f"--change {text}: to leave the argument out: --drop {name}")
    for name in dropped:
        _unknown(changes, name, name)
        changes[name] = None
    return changes or None


def _unknown(changes: dict[str, Any], name: str, text: str) -> None:
    if not _NAME.match(name):
        raise Misused(f"{text!r} names no argument: letters, digits and _, before the first =")
    if name in changes:
        raise Misused(f"{name} is changed twice")


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def standing_of(how_long: str | None, uses: int | None, resource: str | None, now: datetime) -> dict[str, Any] | None:
    """What is allowed ahead: for `8h` (s, min, h, d) or until `18:00` here, so many times. None if nothing is.

    Raises :class:`Misused` where a part is missing or cannot be read. ``now`` has the zone that clock times are in.
    """
    if how_long is None:
        if uses is not None or resource is not None:
            raise Misused("--uses and --resource say how far --standing goes: give --standing too, e.g. --standing 8h")
        return None
    if uses is None:
        raise Misused("--standing allows alike actions ahead: say how many at most, e.g. --uses 20")
    body: dict[str, Any] = {"max_uses": uses} | ({"resource": resource} if resource else {})
    if span := _SPAN.match(how_long.strip()):
        return body | {"for_s": int(span[1]) * _UNITS[span[2]]}
    if clock := _CLOCK.match(how_long.strip()):
        until = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        return body | {"until": (until if until > now else until + timedelta(days=1)).isoformat()}
    raise Misused(f"--standing {how_long}: a time span such as 30min, 8h or 2d, or a time of day such as 18:00")


def vote_body(vote: str, comment: str | None, code: str | None, **more: Any) -> dict[str, Any]:
    """The body of a vote over HTTP; what is None is left out."""
    said = {"vote": vote, "channel": "cli", "comment": comment, "code": code, **more}
    return {name: value for name, value in said.items() if value is not None}
