"""The canonical form of an action and its digest (RFC 8785, SHA-256): what approval and warrant bind to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import rfc8785

from .errors import Malformed


def canonical(value: Any) -> bytes:
    """The RFC 8785 (JCS) form of a JSON value.

    Raises :class:`Malformed` for what JCS cannot carry: integers beyond 2**53 - 1, NaN, infinities, lone surrogates.
    """
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise Malformed(f"the value has no canonical JSON form: {error}; send large numbers as strings") from None


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
