"""The trace context that callers send along (W3C Trace Context, level 1)."""

from __future__ import annotations

import re

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


def traceparent(given: str | None) -> str | None:
    """What was given if it is a trace context, else None: the standard has a malformed one ignored, not refused."""
    return given if given is not None and _TRACEPARENT.fullmatch(given) else None
