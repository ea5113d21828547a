"""What is heard of an approval is the same in whatever order, and however often, its events come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from countersign_contracts.actions import ActionRef
from countersign_contracts.approval_rules import Stage
from countersign_contracts.approvals import (
    ApprovalAdvanced,
    ApprovalEscalated,
    ApprovalEvent,
    ApprovalOverdue,
    ApprovalReminded,
    ApprovalRequested,
    ApprovalResolved,
    ApprovalVoted,
    ApprovalVoteVoided,
    AskedBy,
    Vote,
)
from countersign_contracts.ids import new_id
from countersign_gateway.progress import Heard, hear

AT = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "sha256:" + "0" * 64
REF = ActionRef(request_id=new_id(), agent_id="worker-1", env="prod", tool="pay", tool_version=1, digest=DIGEST)
ASKED_BY = AskedBy(
    rule="two",
    stages=(Stage(name="owner", approvers=("owner:team",)), Stage(name="security", approvers=("group:sec",), quorum=2)),
)


def after(seconds: int) -> datetime:
    return AT + timedelta(seconds=seconds)


def said(kind: type[ApprovalEvent], **more: Any) -> ApprovalEvent:
    return kind(approval_id="apr_1", action=REF, **more)


def vote(voter: str, at: int, stage: str, comment: str | None = None, nth: int = 1) -> ApprovalEvent:
    cast = Vote(
        voter=voter,
        vote="approve",
        digest=DIGEST,
        channel="cli",
        comment=comment,
        voted_at=after(at),
        stage=stage,
        nth=nth,
    )
    return said(ApprovalVoted, vote=cast)


STORY = (
    said(ApprovalRequested, requested_at=AT, deadline=after(600), asked_by=ASKED_BY),
    vote("ann", 1, "owner", comment="mine"),
    said(ApprovalAdvanced, stage="owner", at=after(1)),
    vote("bob", 2, "security"),
    said(ApprovalVoteVoided, voter="bob", reason="removed", voided_at=after(3)),
    said(ApprovalReminded, step=0, to=("group:sec",), reminded_at=after(4)),
    said(ApprovalEscalated, step=0, to=("group:sre",), escalated_at=after(5)),
)


def heard(events: Any) -> Heard:
    known: Heard | None = None
    for event in events:
        known = hear(known, event)
    assert known is not None
    return Heard.from_bytes(known.to_bytes())  # as the row keeps it


@pytest.mark.parametrize(
    ("events", "word", "waits_for", "voters"),
    [
        (1, "requested", ["1 of owner:team", "then 2 of group:sec"], []),
        (2, "voted", ["2 of group:sec"], ["ann"]),
        (4, "voted", ["1 more of group:sec"], ["ann", "bob"]),
        (5, "vote_voided", ["2 of group:sec"], ["ann"]),
        (6, "reminded", ["2 of group:sec"], ["ann"]),
        (7, "escalated", ["2 of group:sec or group:sre"], ["ann"]),
    ],
)
def test_the_requester_is_told_whom_it_waits_for(
    events: int, word: str, waits_for: list[str], voters: list[str]
) -> None:
    told = heard(STORY[:events]).told()
    assert told is not None
    assert (told["said"], told["waits_for"], told["voters"]) == (word, waits_for, voters)
    assert told["deadline"] == "2026-01-01T00:10:00.000000Z" and told["approval_id"] == "apr_1"


def test_in_any_order_and_twice_it_is_the_same() -> None:
    wanted = heard(STORY)
    for order in permutations(STORY):
        assert heard(order) == wanted
    assert heard((*STORY, *STORY)) == wanted


def test_before_it_is_known_who_was_asked_nothing_is_told() -> None:
    assert heard(STORY[1:]).told() is None


def test_a_vote_after_one_that_was_voided_counts() -> None:
    again = vote("bob", 2, "security", nth=2)  # by the clock of another replica
    for order in ((*STORY, again), (again, *STORY)):
        told = heard(order).told()
        assert told is not None and told["voters"] == ["ann", "bob"]


def test_what_people_said_is_not_told_before_the_decision() -> None:
    assert "mine" not in heard(STORY).to_bytes().decode()


def test_an_overdue_approval_still_waits() -> None:
    told = heard((*STORY, said(ApprovalOverdue, deadline=after(600), at=after(600)))).told()
    assert told is not None and told["said"] == "overdue" and told["waits_for"]


def test_how_it_ended_is_no_progress() -> None:
    with pytest.raises(TypeError):
        hear(None, said(ApprovalResolved, state="expired", resolved_at=AT))
