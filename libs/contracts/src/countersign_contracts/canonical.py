"""The canonical form of an action and its digest (RFC 8785, SHA-256): what approval and warrant bind to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import orjson
import rfc8785

from .errors import Malformed

# In ASCII text without floats or long numbers, sorted compact JSON is the canonical form: keys sort alike, strings are
# escaped alike. What only looks like such a number (inside a string) merely takes the long way.
_FAST = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_MAYBE_NOT = re.compile(rb"[0-9](?:[.eE]|[0-9]{14})")


def canonical(value: Any) -> bytes:
    """The RFC 8785 (JCS) form of a JSON value.

    Raises :class:`Malformed` for what JCS cannot carry: integers beyond 2**53 - 1, NaN, infinities, lone surrogates.
    """
    try:
        fast = orjson.dumps(value, option=_FAST)
    except TypeError:  # what it cannot write; the other says precisely why
        fast = b"\xff"
    if fast.isascii() and _MAYBE_NOT.search(fast) is None and not (b"null" in fast and _has_float(value)):
        return fast
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise Malformed(f"the value has no canonical JSON form: {error}; send large numbers as strings") from None


def _has_float(value: Any) -> bool:
    """Whether a float stands anywhere in a JSON value: NaN and infinities would have been written as null."""
    if isinstance(value, dict):
        return any(map(_has_float, value.values()))
    return any(map(_has_float, value)) if isinstance(value, list | tuple) else isinstance(value, float)


def action_digest(
    *,
    agent: str,
    principal_chain: Sequence[str],
    session: str | None,
    env: str,
    tool: str,
    tool_version: int,
    args: dict[str, Any],
) -> str:
    """``sha256:<hex>`` over the canonical form of exactly what would be executed, for whom and where."""
    form = {
        "agent": agent,
        "args": args,
        "env": env,
        "principal_chain": list(principal_chain),
        "session": session,
        "tool": {"name": tool, "version": tool_version},
    }
    return "sha256:" + hashlib.sha256(canonical(form)).hexdigest()
