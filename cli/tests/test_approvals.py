"""`countersign approvals`: what is shown, and what a vote says, without a gateway."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from countersign_cli.approving import sheet
from countersign_cli.approving.ballot import changes_of, standing_of
from countersign_cli.approving.sheet import deadline
from countersign_cli.client import Client
from countersign_cli.main import app
from countersign_cli.output import Misused
from countersign_contracts.errors import CountersignError

ALICE = {"voter": "alice", "vote": "approve"}
BOB = {"voter": "bob", "vote": "reject"}


@pytest.mark.parametrize(
    ("state", "votes", "says"),
    [
        ("pending", [], "in 9 min"),
        ("approved", [ALICE], "approved by alice 2 min ago"),
        ("rejected", [ALICE, BOB], "rejected by bob 2 min ago"),
        ("expired", [ALICE], "expired 2 min ago"),
        ("cancelled", [], "cancelled 2 min ago"),
    ],
)
def test_what_has_ended_says_how_and_when_and_not_until_when(state: str, votes: list[Any], says: str) -> None:
    now = datetime.now(UTC)
    found: dict[str, Any] = {"state": state, "votes": votes, "deadline": (now + timedelta(seconds=595)).isoformat()}
    found["resolved_at"] = None if state == "pending" else (now - timedelta(seconds=125)).isoformat()
    assert deadline(found) == says


# --- what a vote says besides yes or no -------------------------------------------------------------------

AT = datetime(2026, 1, 31, 17, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changed", "dropped", "changes"),
    [
        ([], [], None),
        (["a=1", 'b="x=y"', "c=[1,2]"], [], {"a": 1, "b": "x=y", "c": [1, 2]}),
        (["a=1"], ["b"], {"a": 1, "b": None}),
    ],
)
def test_changes_are_read(changed: list[str], dropped: list[str], changes: Any) -> None:
    assert changes_of(changed, dropped) == changes


@pytest.mark.parametrize(
    ("changed", "dropped", "says"),
    [
        (["a"], [], "name=value"),
        (["a="], [], "--drop a"),
        (["a=null"], [], "--drop a"),
        (["a=hello"], [], """'a="hello"'"""),
        (["a=NaN"], [], "not JSON"),
        (["not a name=1"], [], "names no argument"),
        ([], ["é"], "names no argument"),
        (["a=1", "a=2"], [], "twice"),
        (["a=1"], ["a"], "twice"),
    ],
)
def test_what_changes_nothing_is_refused_with_how_it_is_written(
    changed: list[str], dropped: list[str], says: str
) -> None:
    with pytest.raises(Misused, match=re.escape(says)):
        changes_of(changed, dropped)


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("45s", {"for_s": 45}),
        ("30min", {"for_s": 1800}),
        ("30m", {"for_s": 1800}),
        ("8h", {"for_s": 28_800}),
        ("2 d", {"for_s": 172_800}),
        ("18:00", {"until": "2026-01-31T18:00:00+00:00"}),
        ("9:15", {"until": "2026-02-01T09:15:00+00:00"}),
    ],
)
def test_how_long_alike_actions_are_allowed(text: str, body: dict[str, Any]) -> None:
    assert standing_of(text, 20, None, AT) == {"max_uses": 20} | body
    assert standing_of(text, 20, "orders/*", AT) == {"max_uses": 20, "resource": "orders/*"} | body


@pytest.mark.parametrize(
    ("text", "uses", "says"),
    [
        ("soon", 1, "8h"),
        ("0h", 1, "8h"),
        ("-1h", 1, "8h"),
        ("25:00", 1, "18:00"),
        ("8h", None, "--uses"),
        (None, 1, "--standing"),
    ],
)
def test_a_standing_approval_without_an_end_or_a_number_is_refused(
    text: str | None, uses: int | None, says: str
) -> None:
    with pytest.raises(Misused, match=says):
        standing_of(text, uses, None, AT)


# --- the sheet --------------------------------------------------------------------------------------------

HOSTILE = "fine\ndigest  sha256:0000\x1b[2J\u202egnp.exe"
FOUND: dict[str, Any] = {
    "approval_id": "apr_1",
    "state": "pending",
    "action": {
        "agent_id": "refund-bot",
        "tool": "refund_order",
        "tool_version": 3,
        "env": "prod",
        "args": {"order": "A300", "cents": 100, "note": HOSTILE},
        "reason": HOSTILE,
        "principal_chain": ["person:alice"],
        "session_id": "run-1",
        "digest": "sha256:" + "1" * 64,
    },
    "decision": {"risk": "critical", "reasons": [{"message": "critical risk", "policy": "profile:shop/critical"}]},
    "owner_team": "shop",
    "owner_oncall": "carol",
    "preview": "Refund 1.00 for A300",
    "resource": "orders/A300",
    "deadline": "2030-01-01T00:00:00Z",
    "asked_by": {
        "rule": "refunds",
        "version": 2,
        "deny_threshold": 2,
        "at_deadline": "pause",
        "allow_own": True,
        "changes": {"cents": "lower"},
        "standing": {"max_uses": 20, "max_s": 28_800},
    },
    "stages": [
        {
            "name": "owner",
            "approvers": ["owner:team"],
            "quorum": 1,
            "assurance": "basic",
            "approved_by": ["dora"],
            "state": "done",
        },
        {
            "name": "security",
            "approvers": ["group:security"],
            "people": ["bob", "erin"],
            "quorum": 2,
            "assurance": "strong",
            "state": "open",
        },
    ],
    "waits_for": ["2 of group:security"],
    "escalated_to": ["owner:oncall"],
    "votes": [
        {
            "voter": "dora",
            "vote": "approve",
            "channel": "slack",
            "voted_at": "2026-01-01T00:00:00Z",
            "stage": "owner",
            "assurance": "strong",
            "own": "on call for the agent",
            "comment": HOSTILE,
            "changes": {"cents": 50, "note": None},
            "standing": {"resource": "orders/*", "max_uses": 5, "until": "2030-01-01T00:00:00Z"},
        }
    ],
}


def test_an_approver_is_shown_everything_that_there_is_to_know() -> None:
    facts = dict(sheet.facts(FOUND))
    assert facts["tool"] == "refund_order (version 3)" and facts["agent"] == "refund-bot of team shop"
    assert facts["what it will do"] == "Refund 1.00 for A300" and facts["what it touches"] == "orders/A300"
    assert (
        facts["on behalf of"] == "person:alice" and facts["session"] == "run-1" and facts["on call for it"] == "carol"
    )
    assert facts["why it needs approval"] == "critical risk (profile:shop/critical)" and facts["risk"] == "critical"
    assert facts["rule"] == "refunds, version 2: 2 rejections reject"
    assert facts["own requests"] and facts["may be changed"] == "cents to a lower number"
    assert facts["may be allowed ahead"] == "at most 20 times, for at most 8 h"
    assert facts["waits for"] == "2 of group:security" and facts["escalated to"] == "owner:oncall"
    assert "waits until someone acts" in facts["deadline"] and facts["digest"] == FOUND["action"]["digest"]
    assert sheet.arguments(FOUND)[:2] == [("order", '"A300"'), ("cents", "100")]
    assert sheet.stages(FOUND) == [
        "1. owner: done, 1 of owner:team; approved by dora",
        "2. security: open, 2 of group:security, each with a one-time code (CLI or HTTP); may vote now: bob, erin",
    ]
    (vote,) = sheet.votes(FOUND)
    for part in (
        "dora approved",
        "over slack",
        "one-time code",
        "stage owner",
        "their own: on call",
        "changed cents = 50",
    ):
        assert part in vote
    assert "without note" in vote and "allows orders/* ahead, 5 times" in vote
    assert sheet.needs_code(FOUND)


def test_nothing_that_others_wrote_hides_or_becomes_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gateway(Client):
        def __init__(self) -> None:
            pass

        def get(self, path: str, query: Any = None, *, timeout_s: float = 30) -> Any:
            return FOUND

    monkeypatch.setattr(Client, "find", lambda *_: Gateway())
    shown = CliRunner().invoke(app, ["approvals", "show", "apr_1"], env={"COLUMNS": "120"}).stdout
    assert not set(shown) & set("\x1b\u202e\x07")
    digests = [line.split() for line in shown.splitlines() if line.lstrip().startswith("digest")]
    assert digests == [["digest", FOUND["action"]["digest"]]]
    assert shown.count("\\u202e") == 3, "reason, argument and comment say what stands there"


def test_several_votes_go_out_in_one_step_and_one_that_fails_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    class Gateway(Client):
        def __init__(self) -> None:
            pass

        def post(self, path: str, body: Any, **_: Any) -> Any:
            sent.append((path, body))
            problem = CountersignError("look at it again", code="digest_mismatch").problem()
            return {"items": [{"approval_id": "a", "state": "pending", "waits_for": ["1 of x"]}, {"problem": problem}]}

    monkeypatch.setattr(Client, "find", lambda *_: Gateway())
    digests = ["sha256:" + "1" * 64, "sha256:" + "2" * 64]
    arguments = ["approvals", "approve", "a", "b", "--digest", digests[0], "--digest", digests[1], "--code", "123456"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1 and done.stderr == "b: error: look at it again\n"
    assert done.stdout == "a is still pending: it waits for 1 of x\n"
    items = [{"approval_id": "a", "digest": digests[0]}, {"approval_id": "b", "digest": digests[1]}]
    assert sent == [
        ("/api/v1/approvals/votes", {"vote": "approve", "channel": "cli", "code": "123456", "items": items})
    ]
    missing = CliRunner().invoke(app, arguments[:-4])
    assert missing.exit_code == 2 and "2 approvals and 1 digests" in missing.stderr


@pytest.mark.parametrize("typed", ["123456", " 123 456 "])
def test_the_one_time_code_is_asked_for_where_the_open_stage_needs_it(
    monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    sent: list[Any] = []

    class Gateway(Client):
        def __init__(self) -> None:
            pass

        def get(self, path: str, query: Any = None, *, timeout_s: float = 30) -> Any:
            return FOUND

        def post(self, path: str, body: Any, **_: Any) -> Any:
            sent.append(body)
            return {"state": "amended", "amended_as": "01a1"}

    monkeypatch.setattr(Client, "find", lambda *_: Gateway())
    command = ["approvals", "approve", "apr_1", "--change", "cents=5", "--drop", "note", "--standing", "8h"]
    done = CliRunner().invoke(app, [*command, "--uses", "3"], input=f"y\n{typed}\n")
    assert done.exit_code == 0 and "changed by you: cents = 5" in done.stdout and "without note" in done.stdout
    assert "apr_1 is amended: the action became 01a1, which is decided anew" in done.stdout
    (body,) = sent
    assert body == {
        "vote": "approve",
        "channel": "cli",
        "code": "123456",
        "digest": FOUND["action"]["digest"],
        "changes": {"cents": 5, "note": None},
        "standing": {"max_uses": 3, "for_s": 28_800},
    }
    refused = CliRunner().invoke(app, ["approvals", "approve", "apr_1"], input="n\n")
    assert refused.exit_code == 1 and len(sent) == 1
