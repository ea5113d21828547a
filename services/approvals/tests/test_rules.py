"""Who may vote, and what a vote does: tables."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from countersign_approvals.rules import VoteRefused, outcome_of, require_digest, require_eligible, require_open
from countersign_contracts.actions import Action
from countersign_contracts.approvals import AskedBy, Vote
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now

AT = now()
DIGEST = "sha256:" + "1" * 64


def action(**fields: Any) -> Action:
    given: dict[str, Any] = {
        "request_id": "01920000-0000-7000-8000-000000000000",
        "agent_id": "worker-1",
        "env": "prod",
        "tool": "t",
        "tool_version": 1,
        "args": {},
        "digest": DIGEST,
        "requested_at": AT,
    }
    return Action(**(given | fields))


def vote(voter: str, kind: Any) -> Vote:
    return Vote(voter=voter, vote=kind, digest=DIGEST, channel="cli", voted_at=AT)


@pytest.mark.parametrize(
    ("voter", "chain", "oncall", "may"),
    [
        ("alice", (), None, True),
        ("alice", ("person:bob",), "carol", True),
        ("alice", ("person:alice",), None, False),
        ("Alice", ("person:alice",), None, False),
        ("alice", ("person:bob", "agent:other", "person:alice"), None, False),
        ("carol", (), "carol", False),
        ("CAROL", (), "carol", False),
        ("worker-1", (), None, False),
    ],
)
def test_nobody_approves_their_own(voter: str, chain: tuple[str, ...], oncall: str | None, may: bool) -> None:
    if may:
        assert require_eligible(voter, action(principal_chain=chain), oncall) is None
        return
    assert require_eligible(voter, action(principal_chain=chain), oncall, allow_own=True)
    with pytest.raises(VoteRefused):
        require_eligible(voter, action(principal_chain=chain), oncall)


def test_a_vote_is_for_the_digest_that_was_shown() -> None:
    require_digest(DIGEST, DIGEST)
    with pytest.raises(CountersignError) as refused:
        require_digest("sha256:" + "2" * 64, DIGEST)
    assert refused.value.code == "digest_mismatch"


@pytest.mark.parametrize("state", ["approved", "rejected", "expired", "cancelled"])
def test_an_ended_approval_takes_no_vote(state: Any) -> None:
    with pytest.raises(CountersignError, match=state):
        require_open("apr_1", state, AT + timedelta(hours=1), AT)


def test_the_deadline_itself_is_too_late() -> None:
    require_open("apr_1", "pending", AT + timedelta(seconds=1), AT)
    require_open("apr_1", "pending", AT, AT, pauses=True)
    with pytest.raises(CountersignError, match="expired"):
        require_open("apr_1", "pending", AT, AT)


def test_one_rejection_outweighs_any_approval() -> None:
    assert outcome_of(AskedBy(), ()) is None
    assert outcome_of(AskedBy(), (vote("a", "approve"),)) == "approved"
    assert outcome_of(AskedBy(), (vote("a", "approve"), vote("b", "reject"))) == "rejected"
