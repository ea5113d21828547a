"""The message: everything a person needs, within Slack's limits, whatever the contracts let through."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from countersign_contracts.actions import (
    ActionDenied,
    ActionExecuted,
    ActionReconciled,
    ActionRefused,
    Execution,
    Failure,
    Reason,
)
from countersign_contracts.approval_commands import ApprovalView, StageView
from countersign_contracts.approval_rules import Stage
from countersign_contracts.approvals import AskedBy, StandingGranted, StandingRevoked, Vote
from countersign_contracts.fleet import ChannelIdentity, PersonRecord
from countersign_contracts.model import now
from countersign_harness.slack import TEAM, buttons, fault_of
from countersign_slack.channels import channels_of
from countersign_slack.notes import note_of, outcome_of
from countersign_slack.people import People
from countersign_slack.rendering import APPROVE, MESSAGE_LIMIT, REJECT, Outcome, message, modal, pending_list, size

from .conftest import held, view_of

DIGEST = "sha256:" + "a" * 64


def text_of(rendered: Any) -> str:
    return json.dumps(rendered, ensure_ascii=False)


def a_vote(voter: str = "bob", **more: Any) -> Vote:
    return Vote(**({"voter": voter, "vote": "approve", "digest": DIGEST, "channel": "cli", "voted_at": now()} | more))


def test_it_shows_everything_that_a_person_needs() -> None:
    stage = StageView(
        name="security",
        approvers=("group:security",),
        people=("alice",),
        quorum=2,
        assurance="basic",
        approved_by=("bob",),
        state="open",
    )
    view = view_of(
        held(),
        stages=(stage,),
        waits_for=("1 of group:security",),
        escalated_to=("owner:oncall",),
        resource="things/7",
        preview="closes thing 7",
        tool_description="Changes a thing",
        votes=(a_vote(comment="fine"),),
    )
    shown = text_of(message(view))
    for part in (
        *("write_thing", "version 2", "prod", "worker-1", "ops", "carol", "person:dana", "high (write)"),
        *("high risk needs approval", "profile:worker", "things/7", "closes thing 7", "Changes a thing"),
        *(
            "the customer asked",
            '\\"thing_id\\": 7',
            '\\"status\\": \\"closed\\"',
            view.action.digest,
            view.approval_id,
        ),
        *(
            "Stage `security`: 1 of 2 from `group:security`",
            "1 of group:security",
            "owner:oncall",
            "`bob` by cli",
            "fine",
        ),
        f"<!date^{int(view.deadline.timestamp())}^",
    ):
        assert part in shown, part


def test_the_buttons_carry_approval_and_digest_and_go_once_it_has_ended() -> None:
    view = view_of(held())
    assert [b["action_id"] for b in buttons(message(view))] == [APPROVE, REJECT]
    assert {b["value"] for b in buttons(message(view))} == {f"{view.approval_id} {view.action.digest}"}
    for state in ("approved", "rejected", "expired", "cancelled", "amended"):
        assert buttons(message(view.model_copy(update={"state": state}))) == []


def test_what_takes_a_one_time_code_is_not_approved_here_and_says_where() -> None:
    stage = StageView(name="s", approvers=("anyone",), quorum=1, assurance="strong", state="open")
    view = view_of(held(), stages=(stage,))
    assert [b["action_id"] for b in buttons(message(view))] == [REJECT]
    assert f"countersign approvals approve {view.approval_id}" in text_of(message(view))


def test_large_arguments_say_that_they_are_not_whole_and_where_they_are() -> None:
    view = view_of(held(args={"note": "x" * 100_000, "thing_id": 7}))
    shown = text_of(message(view))
    assert "cannot be shown in full here" in shown and f"countersign approvals show {view.approval_id}" in shown
    assert "… (100,002 characters)" in shown and len(shown) < 8000


def test_sensitive_arguments_are_shown_by_their_mark_alone() -> None:
    view = view_of(held(args={"card": {"$sealed": "box", "mark": "m"}}), shown_args={"card": "[sensitive] 12345678"})
    shown = text_of(message(view))
    assert "[sensitive] 12345678" in shown and "box" not in shown and "sensitive values are not shown" in shown


def test_the_worst_that_the_contracts_let_through_fits_and_mentions_nobody() -> None:
    evil = "<!channel>&`‮" * 1000
    stages = tuple(
        StageView(
            name=f"s{n}",
            approvers=tuple(f"group:{'x' * 128}" for _ in range(64)),
            quorum=64,
            assurance="basic",
            state="open",
        )
        for n in range(8)
    )
    event = held(args={evil[:50] + str(n): evil for n in range(100)}, owner_team=evil[:128], owner_oncall=evil[:256])
    chain = tuple(f"person:{'x' * 250}" for _ in range(16))
    action = event.action.model_copy(update={"reason": evil[:2000], "principal_chain": chain})
    reasons = tuple(Reason(code="c", message=evil, policy=evil) for _ in range(30))
    decision = event.decision.model_copy(update={"reasons": reasons, "policies": (evil,) * 30})
    view = view_of(
        event,
        action=action,
        decision=decision,
        stages=stages,
        waits_for=(evil,) * 20,
        escalated_to=tuple(f"group:{'x' * 128}" for _ in range(64)),
        preview=evil,
        resource=evil,
        tool_description=evil,
        votes=tuple(a_vote(evil, comment=evil[:2000]) for _ in range(50)),
        asked_by=AskedBy(),
    )
    rendered = message(view, Outcome("x", True))
    assert fault_of("chat.postMessage", rendered) is None
    assert size(rendered) <= MESSAGE_LIMIT
    assert "<!channel>" not in text_of(rendered) and "‮" not in text_of(rendered)
    assert fault_of("views.open", {"view": modal(view, "approve", "{}")}) is None
    assert view.action.digest in text_of(rendered) and "cannot be shown in full" in text_of(rendered)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(
    st.dictionaries(
        st.text(max_size=60), st.text(max_size=9000) | st.integers() | st.lists(st.text(), max_size=9), max_size=25
    ),
    st.text(max_size=2000),
    st.text(max_size=3000),
)
def test_no_arguments_break_the_message(args: Any, reason: str, preview: str) -> None:
    event = held()
    action = event.action.model_copy(update={"args": args, "reason": reason})
    view = view_of(event, action=action, preview=preview)
    rendered = message(view)
    assert fault_of("chat.postMessage", rendered) is None and size(rendered) <= MESSAGE_LIMIT
    assert fault_of("views.open", {"view": modal(view, "reject", "{}")}) is None
    assert "<!" not in text_of(rendered).replace("<!date^", "")


@pytest.mark.parametrize(
    ("event", "says", "well"),
    [
        ("succeeded", "Executed: *succeeded*, status 200", True),
        ("failed", "Executed: *failed*, status 200: `it &lt;broke&gt;`", False),
        ("unknown", "*Unknown* whether it took effect", False),
    ],
)
def test_how_an_execution_ended_is_said(event: Any, says: str, well: bool) -> None:
    failure = None if event == "succeeded" else Failure(code="c", message="it <broke>")
    execution = Execution(
        execution_id="e", outcome=event, attempts=1, fence=1, status_code=200, failure=failure, finished_at=now()
    )
    outcome = outcome_of(ActionExecuted(action=held().action.ref(), execution=execution))
    assert outcome is not None and says in outcome.text and outcome.well is well


def test_other_ends_are_said_and_denials_that_repeat_the_rejection_are_not() -> None:
    event = held()
    ref, at = event.action.ref(), now()
    refused = outcome_of(ActionRefused(action=ref, reasons=(Reason(code="stopped", message="a stop"),), refused_at=at))
    assert refused is not None and refused.text == "*Not executed*: `a stop`"
    found = outcome_of(ActionReconciled(action=ref, outcome="failed", by="bob", note="n", reconciled_at=at))
    assert found is not None and "it *failed*" in found.text
    for code, said in (
        ("approval_rejected", False),
        ("approval_expired", False),
        ("amended", False),
        ("stopped", True),
    ):
        decision = event.decision.model_copy(update={"reasons": (Reason(code=code, message="m"),), "outcome": "deny"})
        assert (outcome_of(ActionDenied(action=event.action, decision=decision)) is not None) is said


def test_a_standing_approval_is_told_with_its_bounds() -> None:
    from countersign_contracts.approvals import Standing

    at = now()
    standing = Standing(
        standing_id="sta_1",
        approval_id="apr_1",
        agent_id="worker-1",
        tool="write_thing",
        env="prod",
        resource="things/*",
        granted_by=("bob",),
        granted_at=at,
        until=at + timedelta(hours=1),
        max_uses=20,
    )
    view = view_of(held())
    granted = note_of(StandingGranted(standing=standing), view, [])
    assert granted is not None and "`things/*`" in granted and "at most 20 times" in granted and "`sta_1`" in granted
    revoked = note_of(StandingRevoked(standing=standing, reason="over <!here>"), view, [])
    assert revoked is not None and "over &lt;!here&gt;" in revoked


def test_what_waits_is_a_line_each() -> None:
    views: list[ApprovalView] = [view_of(held()), view_of(held())]
    listed = pending_list(views, True)
    assert all(view.approval_id in listed for view in views) and "and more" in listed
    assert pending_list([], False) == "Nothing waits for you."


@pytest.mark.parametrize(
    ("team", "approvers", "escalated", "channels"),
    [
        ("ops", ("anyone",), (), ("C0D",)),
        ("payments", ("anyone",), (), ("C0P",)),
        ("payments", ("group:security",), (), ("C0S", "C0P")),
        ("ops", ("anyone",), ("group:security",), ("C0S",)),
        ("default", ("group:default",), (), ("C0D",)),
    ],
)
def test_where_it_is_asked(team: str, approvers: Any, escalated: Any, channels: Any) -> None:
    asked_by = AskedBy(stages=(Stage(name="s", approvers=approvers),))
    view = view_of(held(owner_team=team), asked_by=asked_by, escalated_to=escalated)
    assert channels_of(view, {"default": "C0D", "payments": "C0P", "security": "C0S"}) == channels


def test_people_are_found_by_their_identity_and_mentioned_in_their_workspace_alone() -> None:
    def record(name: str, identity: str | None, status: Any = "active") -> PersonRecord:
        channels = (ChannelIdentity(channel="slack", identity=identity, enrolled_at=now()),) if identity else ()
        return PersonRecord(
            name=name, roles=("approver",), token_sha256="", channels=channels, status=status, revision=1
        )

    class Mirrored:
        def values(self) -> list[PersonRecord]:
            return [
                record("alice", f"{TEAM}/U0ALICE"),
                record("bob", "T0OTHER/U0BOB"),
                record("gone", f"{TEAM}/U0GONE", "removed"),
                record("dan", None),
            ]

    people = People(Mirrored())
    found = people.find(f"{TEAM}/U0ALICE")
    assert found is not None and found.name == "alice"
    assert people.find(f"{TEAM}/U0GONE") is None and people.find("alice") is None
    assert people.mentions(["alice", "bob", "gone", "dan"], TEAM) == ["<@U0ALICE>"]
    assert people.mentions(["alice"], None) == []
