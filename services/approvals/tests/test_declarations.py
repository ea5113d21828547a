"""Approval rules and webhooks as declared: every error with its line, versions that grow, changes applied once."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from countersign_approvals.declarations import Declared, plan_change
from countersign_contracts.approval_commands import CommitApprovalRules, PrepareApprovalRules
from countersign_contracts.catalogue import Document, Tool
from countersign_contracts.errors import CountersignError

PAY = """kind: tool
name: pay
effect: external
resource: accounts/{iban}
arguments:
  type: object
  additionalProperties: false
  required: [iban]
  properties:
    iban: {type: string}
    amount: {type: integer}
    note: {type: string}
    items: {type: array, items: {type: string}}
    pin: {type: string, x-sensitive: true}
http: {method: POST, url: "http://127.0.0.1/pay/{iban}", path: [iban], body: [amount, note, items, pin]}
"""
RULE = """kind: approval_rule
name: payments
priority: 10
match:
  tools: [pay]
  arguments:
    - {field: amount, at_least: 1000}
stages:
  - {name: owner, approvers: ["owner:team"]}
  - {name: security, approvers: ["group:security"], quorum: 2, assurance: strong}
deadline_s: 3600
remind_after_s: [300, 900]
escalate:
  - {after_s: 600, to: ["owner:oncall"]}
changes: {amount: lower, items: subset, note: remove}
standing: {max_uses: 20, max_s: 28800}
"""


def plan(text: str, present: tuple[Declared, ...] = (), tools: dict[str, Tool] | None = None) -> Any:
    return plan_change([Document(path="rules.yaml", text=text)], present, 0, tools or {})


def with_lines(*changed: tuple[str, str]) -> str:
    text = RULE
    for before, after in changed:
        assert before in text
        text = text.replace(before, after)
    return f"{text}---\n{PAY}"


def test_a_sound_rule_has_no_errors_and_its_versions_grow() -> None:
    first = plan(with_lines())
    assert first.plan.errors == () and [c.action for c in first.plan.changes] == ["create"]
    assert first.items[0].version == 1
    again = plan(with_lines(), first.items)
    assert [c.action for c in again.plan.changes] == ["unchanged"] and again.items == ()
    changed = plan(with_lines(("priority: 10", "priority: 11")), first.items)
    assert changed.items[0].version == 2 and changed.plan.changes[0].before["priority"] == 10


@pytest.mark.parametrize(
    ("before", "after", "line", "message"),
    [
        ("deadline_s: 3600", "deadline: 3600", 11, "not a field here; did you mean `deadline_s`"),
        ("tools: [pay]", "tools: [pai]", 5, "there is no tool `pai`"),
        ("field: amount", "field: amout", 7, "`amout` is not an argument"),
        ("field: amount", "field: pin", 7, "sensitive"),
        ("after_s: 600", "after_s: 3600", 14, "when all is over"),
        ("[300, 900]", "[300, 4000]", 12, "when all is over"),
        ("[300, 900]", "[900, 300]", 12, "follow one another"),
        ("amount: lower", "iban: remove", 15, "is required"),
        ("note: remove", "note: lower", 15, "is no number"),
        ("amount: lower", "amount: subset", 15, "is no list"),
        ("amount: lower", "amount: higher", 15, "not one of the allowed values"),
        ("amount: lower", "nothing: lower", 15, "`nothing` is not an argument"),
        ("amount: lower", "pin: remove", 15, "nobody else can change it"),
        ('["group:security"], quorum: 2', '["person:ann", "person:ann"], quorum: 2', 10, "names 1"),
        ('["group:security"], quorum: 2', '["person:ann"], quorum: 2', 10, "names 1"),
        ('["group:security"]', '["security"]', 10, "not in the allowed form"),
        ("name: security", "name: owner", 1, "the same name"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(before: str, after: str, line: int, message: str) -> None:
    change = plan(with_lines((before, after)))
    assert change.items == ()
    assert any(message in error.message and error.path == "rules.yaml" for error in change.plan.errors), change.plan
    if line > 1 and "names 1" not in message:
        assert line in [error.line for error in change.plan.errors], change.plan.errors


def test_each_person_counts_once_over_all_stages() -> None:
    text = with_lines(
        ('approvers: ["owner:team"]', 'approvers: ["person:ann"]'),
        ('["group:security"], quorum: 2', '["person:ann"], quorum: 1'),
    )
    assert "cannot fill every stage" in plan(text).plan.errors[0].message
    enough = text.replace('approvers: ["person:ann"], quorum', 'approvers: ["person:ann", "person:bob"], quorum')
    assert plan(enough).plan.errors == ()


def test_rejections_that_nobody_can_make_up_are_refused() -> None:
    rule = 'kind: approval_rule\nname: r\nstages: [{name: a, approvers: ["person:ann"]}]\ndeny_threshold: 2\n'
    [error] = plan(rule).plan.errors
    assert error.line == 4 and "1 people are named" in error.message
    assert plan(rule + 'escalate: [{after_s: 5, to: ["group:ops"]}]\n').plan.errors == ()


def test_a_pausing_rule_may_remind_after_its_deadline() -> None:
    assert plan(with_lines(("[300, 900]", "[300, 7200]"), ("deadline_s: 3600", "at_deadline: pause"))).items


def test_a_tool_cannot_hide_what_a_rule_looks_at() -> None:
    rule = plan(with_lines()).items
    hiding = PAY.replace("amount: {type: integer}", "amount: {type: integer, x-sensitive: true}")
    [error] = plan(hiding, rule).plan.errors
    assert "approval rule `payments` looks at `amount`" in error.message and error.line == 11


async def test_a_change_is_applied_once_and_told_once(stack: Any) -> None:
    await stack.service("approvals")
    gateway = await stack.bus("gateway")
    documents = (Document(path="rules.yaml", text=with_lines()),)
    prepared = await gateway.ask(PrepareApprovalRules(change_id="chg_1", documents=documents))
    assert prepared.errors == () and [c.kind for c in prepared.changes] == ["approval_rule"]
    commit = CommitApprovalRules(change_id="chg_1", base=prepared.base, by="ann", documents=documents)
    answers = await asyncio.gather(*(gateway.ask(commit) for _ in range(3)))
    assert answers == [prepared] * 3
    with pytest.raises(CountersignError) as stale:
        await gateway.ask(commit.model_copy(update={"change_id": "chg_2"}))
    assert stale.value.code == "stale"
    connection = await asyncpg.connect(stack.superuser_dsn())
    rows = await connection.fetch("SELECT name, version FROM approvals.declaration")
    assert [tuple(row) for row in rows] == [("payments", 1)]
    async with asyncio.timeout(10):
        while await connection.fetchval("SELECT count(*) FROM approvals.event WHERE published_at IS NULL"):
            await asyncio.sleep(0.02)
    assert await connection.fetchval("SELECT count(*) FROM approvals.event") == 1
    await connection.close()
