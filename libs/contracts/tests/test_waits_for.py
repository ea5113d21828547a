"""Whom an approval waits for, in words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from countersign_contracts.approval_rules import Stage
from countersign_contracts.approvals import AskedBy, Vote, open_stage, waits_for

AT = datetime(2026, 1, 1, tzinfo=UTC)
TWO = Stage(name="security", approvers=("group:security", "person:ann"), quorum=2)
THEN = Stage(name="owner", approvers=("owner:team",))


def vote(voter: str, stage: str | None = "security", what: str = "approve") -> Vote:
    return Vote.model_validate(
        {
            "voter": voter,
            "vote": what,
            "digest": "sha256:" + "0" * 64,
            "channel": "cli",
            "voted_at": AT,
            "stage": stage,
        }
    )


@pytest.mark.parametrize(
    ("stages", "votes", "escalated", "words"),
    [
        ((), (), (), ("1 approver",)),
        ((), (vote("ann", None),), (), ()),
        ((TWO,), (), (), ("2 of group:security or person:ann",)),
        ((TWO,), (vote("ann"),), (), ("1 more of group:security or person:ann",)),
        ((TWO,), (vote("ann"), vote("ann")), (), ("1 more of group:security or person:ann",)),
        ((TWO,), (vote("ann", what="reject"),), (), ("2 of group:security or person:ann",)),
        ((TWO,), (vote("ann", "elsewhere"),), (), ("2 of group:security or person:ann",)),
        ((TWO,), (vote("ann"), vote("bob")), (), ()),
        ((TWO, THEN), (), (), ("2 of group:security or person:ann", "then 1 of owner:team")),
        ((TWO, THEN), (vote("ann"), vote("bob")), ("group:sre",), ("1 of owner:team or group:sre",)),
        ((THEN,), (), ("owner:team",), ("1 of owner:team",)),
        ((TWO,), (), ("anyone",), ("2 approvers",)),
    ],
)
def test_whom_it_waits_for(
    stages: tuple[Stage, ...], votes: tuple[Vote, ...], escalated: tuple[str, ...], words: tuple[str, ...]
) -> None:
    asked_by = AskedBy(stages=stages) if stages else AskedBy()
    assert waits_for(asked_by, votes, escalated) == words
    assert (open_stage(asked_by, votes) is None) is (words == ())
