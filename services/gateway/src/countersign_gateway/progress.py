"""What is heard of an approval while it waits, and what its requester is told of that: pure.

Events may come twice and in another order than they were said: what is heard of them all is the same in any order.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from countersign_contracts.approval_rules import Approver
from countersign_contracts.approvals import (
    ApprovalAdvanced,
    ApprovalEscalated,
    ApprovalEvent,
    ApprovalOverdue,
    ApprovalProgress,
    ApprovalReminded,
    ApprovalRequested,
    ApprovalVoted,
    ApprovalVoteVoided,
    AskedBy,
    Vote,
    waits_for,
)
from countersign_contracts.model import Frozen, Time


class Heard(Frozen):
    """What was heard of one approval; ``latest`` is the name and time of the latest event."""

    approval_id: str
    asked_by: AskedBy | None = None
    deadline: Time | None = None
    votes: dict[str, Vote] = Field(default_factory=dict, description="by voter")
    voided: dict[str, int] = Field(default_factory=dict, description="by voter: up to which of theirs votes are void")
    escalated: dict[int, tuple[Approver, ...]] = Field(default_factory=dict, description="by step")
    latest: tuple[Time, str]

    def progress(self) -> ApprovalProgress | None:
        """What the requester is told; none before it is known who was asked."""
        if self.asked_by is None or self.deadline is None:
            return None
        votes = [
            vote
            for vote in sorted(self.votes.values(), key=lambda vote: (vote.voted_at, vote.voter))
            if vote.nth > self.voided.get(vote.voter, 0)
        ]
        escalated = [approver for _, to in sorted(self.escalated.items()) for approver in to]
        return ApprovalProgress.model_validate(
            {
                "approval_id": self.approval_id,
                "said": self.latest[1],
                "waits_for": waits_for(self.asked_by, votes, escalated),
                "deadline": self.deadline,
                "voters": tuple(dict.fromkeys(vote.voter for vote in votes if vote.vote == "approve")),
            }
        )

    def told(self) -> dict[str, Any] | None:
        """The same as an agent gets it."""
        progress = self.progress()
        return None if progress is None else progress.model_dump(mode="json", exclude_none=True)


def hear(before: Heard | None, event: ApprovalEvent) -> Heard:
    """What is known once ``event`` was heard too."""
    heard = before or Heard(approval_id=event.approval_id, latest=(_time_of(event), event.spec.name))
    more: dict[str, Any] = {"latest": max(heard.latest, (_time_of(event), event.spec.name))}
    match event:
        case ApprovalRequested():
            more |= {"asked_by": event.asked_by, "deadline": event.deadline}
        case ApprovalVoted(vote=vote):
            earlier = heard.votes.get(vote.voter)
            if earlier is None or earlier.nth <= vote.nth:
                # what was said with it is told with the decision
                bare = vote.model_copy(update={"comment": None, "changes": None, "standing": None})
                more["votes"] = heard.votes | {vote.voter: bare}
        case ApprovalVoteVoided(voter=voter):
            more["voided"] = heard.voided | {voter: max(event.nth, heard.voided.get(voter, 0))}
        case ApprovalEscalated():
            more["escalated"] = heard.escalated | {event.step: event.to}
    return heard.model_copy(update=more)


def _time_of(event: ApprovalEvent) -> datetime:
    match event:
        case ApprovalRequested():
            return event.requested_at
        case ApprovalVoted():
            return event.vote.voted_at
        case ApprovalVoteVoided():
            return event.voided_at
        case ApprovalReminded():
            return event.reminded_at
        case ApprovalEscalated():
            return event.escalated_at
        case ApprovalAdvanced() | ApprovalOverdue():
            return event.at
    raise TypeError(f"{type(event).__name__} is no progress")
