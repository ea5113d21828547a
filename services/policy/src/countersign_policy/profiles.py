"""Permission profiles compiled to Cedar, in Cedar's JSON form.

What a profile allows is a ``permit``: its tools. What it bounds is a ``forbid``: environments, endpoints, body fields.
So a hand-written ``permit`` may add a tool for some agents, and none can widen a bound. The ids:

=============================  =========================================================================
``agent/environments``         one for all agents: forbid outside the agent's own environments
``profile/<p>/environments``   forbid outside the profile's environments
``profile/<p>/tools``          permit the profile's tools
``profile/<p>/endpoints``      forbid endpoints that match no pattern; ``*`` stands for any text, ``/`` included
``profile/<p>/fields/<tool>``  forbid body fields that are not listed
=============================  =========================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from countersign_contracts.catalogue import Profile

#: Which check a policy expresses; a denial's reasons follow from it.
Check = Literal["environment", "tools", "endpoint", "fields", "written"]


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy of the set: its id, what it checks, and Cedar's JSON form. ``tool``: the one it is about."""

    id: str
    check: Check
    est: Mapping[str, Any]
    tool: str | None = None


def agent_policy() -> Policy:
    """Every agent is bound to its own environments."""
    inside = _contains({".": {"left": _var("principal"), "attr": "environments"}}, _context("env"))
    return Policy("agent/environments", "environment", _policy("forbid", _ALL, _ALL, unless=inside))


def compile_profile(profile: Profile) -> Iterator[Policy]:
    """The policies of one profile."""
    prefix = f"profile/{profile.name}"
    whose = {"op": "in", "entity": {"type": "Profile", "id": profile.name}}
    inside = _contains(_strings(profile.environments), _context("env"))
    environments = _policy("forbid", whose, _ALL, unless=inside)
    yield Policy(f"{prefix}/environments", "environment", environments)
    if profile.tools:
        tools = {"op": "in", "entities": [_action(tool) for tool in profile.tools]}
        yield Policy(f"{prefix}/tools", "tools", _policy("permit", whose, tools))
    if profile.endpoints:
        matches = _any(_like(_context("endpoint"), pattern) for pattern in profile.endpoints)
        yield Policy(f"{prefix}/endpoints", "endpoint", _policy("forbid", whose, _ALL, unless=matches))
    for tool, fields in profile.fields.items():
        only = {"op": "==", "entity": _action(tool)}
        yield Policy(f"{prefix}/fields/{tool}", "fields", _policy("forbid", whose, only, unless=_within(fields)), tool)


_ALL: Mapping[str, Any] = {"op": "All"}


def _policy(effect: str, principal: Mapping[str, Any], action: Mapping[str, Any], unless: Any = None) -> dict[str, Any]:
    conditions = [] if unless is None else [{"kind": "unless", "body": unless}]
    return {
        "effect": effect,
        "principal": principal,
        "action": action,
        "resource": _ALL,
        "conditions": conditions,
    }


def _action(tool: str) -> dict[str, str]:
    return {"type": "Action", "id": tool}


def _var(name: str) -> dict[str, str]:
    return {"Var": name}


def _context(attribute: str) -> dict[str, Any]:
    return {".": {"left": _var("context"), "attr": attribute}}


def _strings(values: Iterable[str]) -> dict[str, Any]:
    return {"Set": [{"Value": value} for value in values]}


def _contains(left: Any, right: Any) -> dict[str, Any]:
    return {"contains": {"left": left, "right": right}}


def _within(fields: tuple[str, ...]) -> dict[str, Any]:
    if not fields:
        # Cedar's validator refuses an empty set literal, whose element type it cannot know
        return {"isEmpty": {"arg": _context("fields")}}
    return {"containsAll": {"left": _strings(fields), "right": _context("fields")}}


def _like(left: Any, pattern: str) -> dict[str, Any]:
    parts: list[Any] = []
    for index, literal in enumerate(pattern.split("*")):
        parts += ["Wildcard"] if index else []
        parts += [{"Literal": literal}] if literal else []
    return {"like": {"left": left, "pattern": parts}}


def _any(tests: Iterable[Any]) -> Any:
    joined: Any = None
    for test in tests:
        joined = test if joined is None else {"||": {"left": joined, "right": test}}
    return joined
