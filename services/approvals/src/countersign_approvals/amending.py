"""Approving with narrower arguments: what the action becomes, or why that is not allowed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from countersign_contracts.actions import Action
from countersign_contracts.approval_rules import Narrowing
from countersign_contracts.approvals import Amendment
from countersign_contracts.canonical import action_digest
from countersign_contracts.errors import CountersignError
from countersign_contracts.sealed import has_sealed


def amended(
    action: Action, changes: Mapping[str, Any], allowed: Mapping[str, Narrowing], *, by: str, request_id: str
) -> Amendment:
    """The action with these arguments instead, as a new one.

    Raises `invalid` for an argument that may not be narrowed, or not like this, and where nothing would change.
    """
    args = dict(action.args)
    for name, value in changes.items():
        how = allowed.get(name)
        if how is None:
            named = ", ".join(f"{each} ({way})" for each, way in sorted(allowed.items()))
            raise _not(f"`{name}` may not be changed here; what may be: {named or 'nothing'}")
        if name not in args:
            raise _not(f"`{name}` is not given, so there is nothing to narrow")
        if has_sealed(args[name]) or has_sealed(value):
            raise _not(f"`{name}` is sensitive: only the executor can read it")
        if how == "remove":
            if value is not None:
                raise _not(f"`{name}` may be left out (null), and not be given another value")
            del args[name]
        else:
            args[name] = _lower(name, args[name], value) if how == "lower" else _subset(name, args[name], value)
    digest = action_digest(
        agent=action.agent_id,
        principal_chain=action.principal_chain,
        session=action.session_id,
        env=action.env,
        tool=action.tool,
        tool_version=action.tool_version,
        args=args,
    )
    if digest == action.digest:
        raise _not("the changes change nothing: approve without them")
    return Amendment(request_id=request_id, args=args, digest=digest, by=by)


def _lower(name: str, before: Any, after: Any) -> Any:
    """A number nearer to zero from above; never beyond it, where a lower one may be more."""
    if not _is_number(before) or not _is_number(after) or isinstance(after, float) > isinstance(before, float):
        raise _not(f"`{name}` may be lowered from {before!r} to another number of its kind")
    if not after < before or (before >= 0 > after):
        raise _not(f"`{name}` may be lowered: to less than {before}{' and at least 0' if before >= 0 else ''}")
    return after


def _subset(name: str, before: Any, after: Any) -> list[Any]:
    """Some of the items, in their order; at least one, since no items may mean all."""
    if not isinstance(before, list) or not isinstance(after, list) or not after:
        raise _not(f"`{name}` may be cut down to a list of some of its items, at least one")
    rest = iter(before)
    if len(after) >= len(before) or not all(any(_same(item, each) for each in rest) for item in after):
        raise _not(f"`{name}` may be cut down to some of its items, in their order")
    return after


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _not(detail: str) -> CountersignError:
    return CountersignError(detail, code="invalid")
