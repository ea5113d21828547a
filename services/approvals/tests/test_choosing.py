"""Which rule counts, and what it means for an approval: tables."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from countersign_approvals.choosing import agenda, asked_by, choose, deadline_of
from countersign_approvals.clock import advance
from countersign_approvals.declarations import Declared
from countersign_approvals.desk import asked_for
from countersign_contracts.approval_rules import ApprovalRule
from countersign_contracts.model import now
from countersign_contracts.sealed import sealed

from .conftest import held

AT = now()
STAGE = {"name": "one", "approvers": ["group:security"]}


def rule(name: str = "r", **fields: Any) -> ApprovalRule:
    return ApprovalRule.model_validate({"name": name, "stages": [STAGE]} | fields)


def declared(*rules: ApprovalRule) -> tuple[Declared, ...]:
    return tuple(Declared(each, 3) for each in rules)


@pytest.mark.parametrize(
    ("match", "does"),
    [
        ({}, True),
        ({"tools": ["t"]}, True),
        ({"tools": ["other"]}, False),
        ({"environments": ["prod", "dev"]}, True),
        ({"environments": ["dev"]}, False),
        ({"risks": ["high"]}, True),
        ({"risks": ["critical"]}, False),
        ({"agents": ["worker-1"]}, True),
        ({"agents": ["worker-2"]}, False),
        ({"profiles": ["p"]}, False),
        ({"arguments": [{"field": "amount", "at_least": 100}]}, True),
        ({"arguments": [{"field": "amount", "at_least": 101}]}, False),
        ({"arguments": [{"field": "amount", "at_least": 100}, {"field": "note", "present": True}]}, False),
        ({"arguments": [{"field": "pin", "present": True}]}, True),
        ({"arguments": [{"field": "pin", "equals": 1}]}, False),
        ({"tools": ["t"], "environments": ["dev"]}, False),
    ],
)
def test_a_rule_matches_what_meets_every_condition(match: dict[str, Any], does: bool) -> None:
    action = held(amount=100, pin=sealed("x" * 64, b"0" * 32))
    assert (choose(declared(rule(match=match)), action) is not None) is does


def test_the_highest_priority_counts_then_the_first_by_name() -> None:
    rules = declared(rule("b", priority=5), rule("a", priority=5), rule("z", priority=4), rule("c", priority=-1))
    assert [found[0].name for found in (choose(rules, held()), choose(rules[2:], held())) if found] == ["a", "z"]
    assert choose((), held()) is None


def test_where_no_rule_matches_one_approver_decides_until_the_profile_s_deadline() -> None:
    approval = asked_for(held(deadline_s=60), (), AT, None)
    assert approval.rule == asked_by(None) and approval.rule.version == 0
    assert approval.rule.stages[0].approvers == ("anyone",) and approval.rule.stages[0].quorum == 1
    assert approval.deadline == AT + timedelta(seconds=60) == approval.next_at()


def test_the_rule_is_kept_as_it_was_with_its_version() -> None:
    approval = asked_for(held(), declared(rule(deny_threshold=2, allow_own=True, deadline_s=5)), AT, None)
    assert (approval.rule.rule, approval.rule.version, approval.rule.deny_threshold) == ("r", 3, 2)
    assert approval.rule.allow_own and approval.deadline == AT + timedelta(seconds=5)


def test_what_comes_after_the_profile_s_deadline_is_left_out_unless_it_pauses() -> None:
    steps = {"remind_after_s": [10, 90], "escalate": [{"after_s": 20, "to": ["anyone"]}]}
    for more, kept in (({}, [10, 20]), ({"at_deadline": "pause"}, [10, 20, 90])):
        chosen = (rule(**steps, **more), 1)
        items = agenda(chosen, AT, deadline_of(chosen, held(deadline_s=60), AT)).items
        assert [(item.at - AT).total_seconds() for item in items] == kept


def test_everything_that_is_due_happens_once_in_the_order_of_time() -> None:
    steps = {"remind_after_s": [1, 3], "escalate": [{"after_s": 2, "to": ["group:sre"]}], "deadline_s": 4}
    approval = asked_for(held(), declared(rule(**steps, at_deadline="pause")), AT, None)
    after, events = advance(approval, AT + timedelta(seconds=3))
    assert [event.spec.name for event in events] == ["reminded", "escalated", "reminded"]
    assert [event.event_id().split(".")[-1] for event in events] == ["1", "1", "2"]
    assert events[2].to == ("group:security", "group:sre") and after.escalated_to == ("group:sre",)  # type: ignore[attr-defined]
    assert after.next_at() == AT + timedelta(seconds=4) and after.state == "pending"
    assert advance(after, AT + timedelta(seconds=3))[1] == []
    late, events = advance(after, AT + timedelta(seconds=9))
    assert [event.spec.name for event in events] == ["overdue"] and late.overdue and late.state == "pending"
    assert late.next_at() is None and advance(late, AT + timedelta(days=9))[1] == []


def test_at_the_deadline_it_expires_and_nothing_else_happens() -> None:
    approval = asked_for(held(), declared(rule(remind_after_s=[1], deadline_s=2)), AT, None)
    after, events = advance(approval, AT + timedelta(seconds=2))
    assert after.state == "expired" and [event.spec.name for event in events] == ["resolved"]
