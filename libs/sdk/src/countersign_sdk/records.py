"""Log records and the names of metrics as the registry takes them: pure. Whatever an agent says becomes one that fits.

Nothing here raises for what it is given: a log that breaks its agent's work is worse than one that is cut short.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from countersign_contracts.ids import is_request_id
from countersign_contracts.model import rfc3339
from countersign_contracts.telemetry import LEVELS, MOST_FIELDS, LogLevel

#: The longest text, name of a logger, and value of a field, in characters.
MOST_TEXT, MOST_LOGGER, MOST_VALUE = 8192, 128, 512
#: Integers beyond this are no numbers to everybody (RFC 8259, section 6).
_MOST_INTEGER = 2**53
_NO_NAME = re.compile(r"[^a-z0-9_.]")
#: What every record of the standard library has: anything else was given as ``extra``.
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def record(
    at: datetime,
    level: LogLevel,
    text: object,
    logger: str | None,
    fields: Mapping[str, Any],
    request_id: str | None,
) -> bytes:
    """One record of a batch, as JSON."""
    fields = dict(fields)
    said: dict[str, Any] = {"at": rfc3339(at), "level": level, "text": _cut(_words(text), MOST_TEXT) or "(no text)"}
    if logger:
        said["logger"] = _cut(_words(logger), MOST_LOGGER)
    if request_id is not None:
        if is_request_id(str(request_id)):
            said["request_id"] = str(request_id)
        else:
            fields["request_id"] = request_id
    if fields:
        said["fields"] = {name_of(name): _value(fields[name]) for name in list(fields)[:MOST_FIELDS]}
    return orjson.dumps(said)


def name_of(text: object) -> str:
    """A name of a field or a metric that is like it: lower case, at most 63 characters."""
    name = _NO_NAME.sub("_", _words(text).lower())[:63]
    return name if name[:1].isascii() and name[:1].isalpha() else f"x{name}"[:63]


def level_of(number: int) -> LogLevel:
    """The level of a number of the standard library's."""
    return LEVELS[min(4, max(0, number // 10 - 1))]


def extra_of(made: logging.LogRecord) -> dict[str, Any]:
    """What the caller gave the standard library as ``extra``."""
    return {name: value for name, value in vars(made).items() if name not in _STANDARD}


def _value(given: Any) -> Any:
    match given:
        case None | bool():
            return given
        case int() if -_MOST_INTEGER <= given <= _MOST_INTEGER:
            return int(given)
        case float() if math.isfinite(given):
            return float(given)
    return _cut(_words(given), MOST_VALUE)


def _words(given: object) -> str:
    """Its text, as UTF-8 can carry it."""
    try:
        return str(given).encode("utf-8", "replace").decode()
    except Exception:  # an agent's own __str__
        return f"({type(given).__name__} that has no text)"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
