"""Which rule an approval follows, and what that means for it: stages, deadline, and what happens meanwhile. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal

from countersign_contracts.actions import ActionHeld
from countersign_contracts.approval_rules import ApprovalRule, Approver, RuleCondition
from countersign_contracts.approvals import AskedBy
from countersign_contracts.model import Frozen, Time

from .declarations import Declared


class Appointment(Frozen):
    """What happens to an approval at some time if it is still pending."""

    at: Time
    what: Literal["remind", "escalate"]
    step: int
    to: tuple[Approver, ...] = ()


class Agenda(Frozen):
    """The appointments of one approval, in the order of their times."""

    items: tuple[Appointment, ...] = ()


def choose(rules: Iterable[Declared], held: ActionHeld) -> tuple[ApprovalRule, int] | None:
    """The rule that counts, with its version: of those that match, the highest priority, then the first by name."""
    matching = [
        (each.model, each.version)
        for each in rules
        if isinstance(each.model, ApprovalRule) and matches(each.model.match, held)
    ]
    return min(matching, key=lambda found: (-found[0].priority, found[0].name), default=None)


def matches(wanted: RuleCondition, held: ActionHeld) -> bool:
    """Whether a held action meets every condition that is given."""
    action, decision = held.action, held.decision
    return (
        (not wanted.tools or action.tool in wanted.tools)
        and (not wanted.environments or action.env in wanted.environments)
        and (not wanted.risks or decision.risk in wanted.risks)
        and (not wanted.profiles or decision.profile in wanted.profiles)
        and (not wanted.agents or action.agent_id in wanted.agents)
        and all(condition.holds(action.args) for condition in wanted.arguments)
    )


def asked_by(chosen: tuple[ApprovalRule, int] | None) -> AskedBy:
    """The rule as it stays in force for the approval; the default one where none was chosen."""
    if chosen is None:
        return AskedBy()
    rule, version = chosen
    return AskedBy(
        rule=rule.name,
        version=version,
        stages=rule.stages,
        deny_threshold=rule.deny_threshold,
        at_deadline=rule.at_deadline,
        allow_own=rule.allow_own,
        changes=rule.changes,
        standing=rule.standing,
    )


def deadline_of(chosen: tuple[ApprovalRule, int] | None, held: ActionHeld, at: datetime) -> datetime:
    """Until when people are asked: the rule's time, else the profile's."""
    seconds = chosen[0].deadline_s if chosen is not None else None
    return at + timedelta(seconds=held.deadline_s if seconds is None else seconds)


def agenda(chosen: tuple[ApprovalRule, int] | None, at: datetime, deadline: datetime) -> Agenda:
    """Reminders and escalations of an approval requested ``at``.

    What comes after the profile's deadline is left out, unless the approval stays open then.
    """
    if chosen is None:
        return Agenda()
    rule = chosen[0]
    items = [
        Appointment(at=at + timedelta(seconds=seconds), what="remind", step=step)
        for step, seconds in enumerate(rule.remind_after_s, 1)
    ]
    items += [
        Appointment(at=at + timedelta(seconds=each.after_s), what="escalate", step=step, to=each.to)
        for step, each in enumerate(rule.escalate, 1)
    ]
    kept = [item for item in items if item.at < deadline or rule.at_deadline == "pause"]
    return Agenda(items=tuple(sorted(kept, key=lambda item: (item.at, item.what, item.step))))
