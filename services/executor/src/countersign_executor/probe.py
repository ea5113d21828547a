"""What a probe's answer says about an unknown outcome. Pure.

Only what the tool declares counts, and only if one of its two conditions holds and the other does not: everything
else leaves the outcome unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from countersign_contracts.catalogue import AnswerLike, Probe
from countersign_contracts.templates import fill_value

from .answer import Answer
from .facts import NoSuchValue, same_json, value_at

#: The one thing of an action that a probe's arguments may name: it is what the downstream knows the call by.
REQUEST_ID = "request_id"


@dataclass(frozen=True, slots=True)
class Found:
    """What became of it. ``path`` and ``value``: what the answer was recognised by, besides its status."""

    outcome: Literal["succeeded", "failed"]
    declared: Literal["happened_when", "not_happened_when"]
    path: str | None
    value: Any


def probe_args(probe: Probe, request_id: str) -> dict[str, Any]:
    """The lookup's arguments."""
    names: Mapping[str, Any] = {REQUEST_ID: request_id}
    return {name: fill_value(template, names) for name, template in probe.args.items()}


def judge(probe: Probe, answer: Answer) -> Found | str:
    """What the answer says, or why it says nothing."""
    happened, did_not = _like(probe.happened_when, answer), _like(probe.not_happened_when, answer)
    if happened and did_not:
        return f"its answer (status {answer.status}) is like both `happened_when` and `not_happened_when`"
    if happened:
        return _found("succeeded", "happened_when", probe.happened_when, answer)
    if did_not:
        return _found("failed", "not_happened_when", probe.not_happened_when, answer)
    return f"its answer (status {answer.status}) is like neither `happened_when` nor `not_happened_when`"


def pause_s(probes: int, first_s: float, longest_s: float) -> float:
    """How long before the next lookup, after so many that told nothing."""
    return min(longest_s, first_s * 2.0 ** min(probes - 1, 30))


def _like(wanted: AnswerLike, answer: Answer) -> bool:
    right_status = 200 <= answer.status < 300 if wanted.status is None else answer.status == wanted.status
    if not right_status or wanted.path is None:
        return right_status
    if answer.truncated:
        return False
    try:
        return same_json(value_at(answer.result, wanted.path), wanted.equals)
    except NoSuchValue:
        return False


def _found(
    outcome: Literal["succeeded", "failed"],
    declared: Literal["happened_when", "not_happened_when"],
    wanted: AnswerLike,
    answer: Answer,
) -> Found:
    value = None if wanted.path is None else value_at(answer.result, wanted.path)
    return Found(outcome, declared, wanted.path, value)
