"""Declared changes: validated wholly, applied all or nothing, told once, and followed by every replica."""

from __future__ import annotations

import asyncio

import pytest

from countersign_contracts.actions import ActionDenied, ActionGranted
from countersign_contracts.catalogue import Document
from countersign_contracts.commands import ChangePlan, CommitPolicies, PreparePolicies
from countersign_contracts.control import PoliciesChanged
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import new_id
from countersign_policy.cedar_text import parse

from .conftest import Rig, make_action

FORBID = Document(path="no.cedar", text="forbid (principal, action, resource);")


async def prepare(rig: Rig, *documents: Document) -> ChangePlan:
    plan: ChangePlan = await rig.ask(PreparePolicies(change_id=new_id(), documents=documents))
    return plan


async def test_a_change_is_told_with_what_was_before_and_after(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    plan = await prepare(rig, FORBID, *rig.world())
    assert [(c.kind, c.name, c.action) for c in plan.changes if c.action != "unchanged"] == [("policy", "no", "create")]
    await rig.apply([FORBID])
    other = FORBID.model_copy(update={"text": "// nothing any more"})
    await rig.apply([other])
    *_, last = await rig.all(PoliciesChanged, 3)
    (change,) = last.changes
    assert (change.before, change.after) == ({"text": FORBID.text}, {"text": other.text})
    assert last.by == "ann"


async def test_errors_come_with_file_line_and_what_is_allowed_and_nothing_is_applied(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    profile = """\
kind: profile
name: broken
environments: [dev]
tools: [list_tickets, lost]
fields:
  update_ticket: [status, ticket_id]
  gone: [x]
guardrails:
  - {kind: spend, name: a, tools: [list_tickets], field: status, limit: 1, window_s: 60, per: agent}
  - {kind: time_window, name: b, start: 09:00, end: 09:00, timezone: Mars/Base, limit: 3}
  - {kind: rate, name: b, tools: [nothing], limit: 1, window_s: 60, per: agent}
  - {kind: time_window, name: d, days: [], start: 09:00, end: 17:00}
"""
    cedar = """\
@id("x")
permit (principal, action == Action::"pay", resource)
when {
  context.args.amout > 5
};
forbid (principal, action == Action::"lost", resource);
permit (principal, action, resource) when { 1 + };
@id("x") forbid (principal == ?principal, action, resource);
"""
    agent = "kind: agent\nagent_id: a\nname: A\nowner: {team: t}\nprofile: nowhere\nenvironments: [dev]\n"
    documents = (
        Document(path="p.yaml", text=profile),
        Document(path="c.cedar", text=cedar),
        Document(path="a.yaml", text=agent),
        Document(path="profile.cedar", text=""),
    )
    plan = await prepare(rig, *documents)
    found = {(e.path, e.line, e.message, e.allowed) for e in plan.errors}
    tools = "delete_ticket, list_tickets, pay, reboot, restock, send_email, update_ticket"
    assert ("p.yaml", 4, "tool `lost` is unknown", tools) in found
    assert ("p.yaml", 6, "tool `update_ticket` has no body field `ticket_id`", "status, title") in found
    assert ("p.yaml", 7, "tool `gone` is unknown", tools) in found
    assert ("p.yaml", 9, "`status` of tool `list_tickets` is no number, so it cannot be added up", "none") in found
    assert ("p.yaml", 10, "time zone `Mars/Base` is unknown", "an IANA name such as Europe/Berlin") in found
    assert any(e[:2] == ("p.yaml", 10) and "same" in e[2] for e in found)
    assert any(e[:2] == ("p.yaml", 10) and e[2].startswith("`limit` means nothing") for e in found)
    assert ("p.yaml", 11, "a guardrail `b` stands above already", None) in found
    assert any(e[:2] == ("p.yaml", 12) and "never open" in e[2] for e in found)
    assert ("p.yaml", 11, "tool `nothing` is unknown", tools) in found
    assert any(e[:2] == ("c.cedar", 4) and "amout" in e[2] for e in found)
    assert any(e[:2] == ("c.cedar", 6) and "lost" in e[2] and e[3] == tools for e in found)
    assert any(e[:2] == ("c.cedar", 7) and e[2].startswith("not Cedar") for e in found)
    assert any(e[:2] == ("c.cedar", 8) and "?principal" in e[2] for e in found)
    assert ("a.yaml", 5, "profile `nowhere` is unknown", "broken, finance, operations, support") in found
    assert any(e[0] == "profile.cedar" for e in found)
    commit: ChangePlan = await rig.ask(
        CommitPolicies(change_id=new_id(), base=plan.base, by="ann", documents=documents)
    )
    assert commit.errors == plan.errors
    assert (await prepare(rig, *rig.world())).base == plan.base


async def test_what_cedar_cannot_read_or_decide_by_is_an_error_of_its_file(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    conditions = (
        "(" * 5000 + "true" + ")" * 5000,  # these ended the process
        "[" * 5000,
        "true" + " && true" * 20_000,
        "true" + " && true" * 600,
        " || ".join(['context.env == "dev"'] * 70),  # this was applied, and then nothing was allowed any more
    )
    files = {
        f"deep{n}.cedar": f"// one\npermit (principal, action, resource)\nwhen {{ {condition} }};"
        for n, condition in enumerate(conditions)
    }
    plan = await prepare(rig, *(Document(path=path, text=text) for path, text in files.items()))
    assert [(error.path, error.line) for error in plan.errors] == [(path, 2) for path in files]
    for error in plan.errors:
        assert "more than about 50 operators" in error.message and "several policies" in (error.allowed or "")


def test_a_text_that_does_not_end_costs_no_more_than_its_length() -> None:
    """Quadratic in its quotes, the largest file that is taken held up every decision for an hour."""
    for text in ('"' + '\\"' * 200_000, 'permit (principal, action, resource) when { "' + "(" * 200_000):
        policies, (error,) = parse("open.cedar", "open", text)
        assert policies == [] and error.message.startswith("not Cedar")


async def test_a_tool_of_the_same_change_counts_as_known(rig: Rig) -> None:
    await rig.service()
    tool = (
        "kind: tool\nname: fresh\neffect: read\n"
        "arguments: {type: object, required: [amount], properties: {amount: {type: integer}}}\n"
        "http: {method: GET, url: 'https://x.example/'}\n"
    )
    cedar = 'forbid (principal, action == Action::"fresh", resource) when { context.args.amount > 1 };'
    plan = await prepare(rig, Document(path="t.yaml", text=tool), Document(path="f.cedar", text=cedar))
    assert plan.errors == ()
    assert [c.name for c in plan.changes] == ["f"]


async def test_a_change_that_somebody_overtook_is_stale(rig: Rig) -> None:
    await rig.service()
    plan = await prepare(rig, *rig.world())
    await rig.apply()
    with pytest.raises(CountersignError, match="prepare it again") as caught:
        await rig.ask(CommitPolicies(change_id=new_id(), base=plan.base, by="ann", documents=(FORBID,)))
    assert caught.value.code == "stale"


async def test_of_two_commits_at_once_one_wins(rig: Rig) -> None:
    await rig.service()
    await rig.service()
    plan = await prepare(rig, *rig.world())
    commits = [
        CommitPolicies(change_id=new_id(), base=plan.base, by="ann", documents=(*rig.world(), document))
        for document in (FORBID, FORBID.model_copy(update={"path": "other.cedar"}))
    ]
    outcomes = await asyncio.gather(*(rig.ask(c) for c in commits), return_exceptions=True)
    assert sorted(type(o).__name__ for o in outcomes) == ["ChangePlan", "CountersignError"]


async def test_committing_again_changes_nothing_more(rig: Rig) -> None:
    await rig.service()
    plan = await prepare(rig, *rig.world())
    commit = CommitPolicies(change_id=new_id(), base=plan.base, by="ann", documents=tuple(rig.world()))
    first: ChangePlan = await rig.ask(commit)
    again: ChangePlan = await rig.ask(commit)
    assert again == first
    assert await rig.fetch("SELECT count(*) FROM policy_change") == 1


async def test_every_replica_decides_by_the_new_policies_at_once(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    await rig.service()
    before = [make_action() for _ in range(20)]
    await rig.request(*before)
    for action in before:
        assert isinstance(await rig.ended(action), ActionGranted)
    await rig.apply([FORBID])
    after = [make_action() for _ in range(20)]
    for action in after:
        await rig.request(action)
    for action in after:
        event = await rig.ended(action)
        assert isinstance(event, ActionDenied)
        assert event.decision.policies == ("no/1",)


async def test_a_change_that_was_committed_and_not_told_is_told_later(rig: Rig) -> None:
    await rig.service(change_publish_interval_s=0.05)
    await rig.apply()
    await rig.fetch("UPDATE policy_change SET published_at = NULL RETURNING change_id")
    await rig.until("SELECT NOT EXISTS (SELECT FROM policy_change WHERE published_at IS NULL)")


async def test_the_set_survives_a_restart(rig: Rig) -> None:
    first = await rig.service()
    await rig.apply()
    await first.stop()
    await rig.service()
    action = make_action()
    await rig.request(action)
    assert isinstance(await rig.ended(action), ActionGranted)
    assert await rig.fetch("SELECT count(*) FROM declaration_history") == 3


async def test_a_change_too_large_for_the_ledger_is_told_by_digests(rig: Rig) -> None:
    await rig.service()
    await rig.apply([Document(path="long.cedar", text="// " + "a" * 400_000)])
    await rig.apply([Document(path="long.cedar", text="// " + "b" * 400_000)])
    first, second = await rig.all(PoliciesChanged, 2)
    assert first.changes[0].after == {"text": "// " + "a" * 400_000}
    assert second.changes[0].before is not None
    assert list(second.changes[0].before) == ["sha256"]
    assert second.changes[0].after != second.changes[0].before
