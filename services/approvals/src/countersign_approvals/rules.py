"""Who may vote, and what a vote does: pure."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from countersign_contracts.actions import Action
from countersign_contracts.approvals import ApprovalState, Vote
from countersign_contracts.errors import CountersignError, Refused


class VoteRefused(Refused):
    """The vote does not count, and why."""


def require_eligible(voter: str, action: Action, owner_oncall: str | None) -> None:
    """Nobody approves their own request: not the person it is made for, not the one who answers for the agent.

    Raises :class:`VoteRefused` saying what ties the voter to the action.
    """
    principals = {principal.partition(":")[2].casefold() for principal in action.principal_chain}
    name = voter.casefold()
    if name in principals:
        raise VoteRefused(f"the action is made on behalf of {voter}: somebody else must decide")
    if owner_oncall is not None and name == owner_oncall.casefold():
        raise VoteRefused(f"{voter} is on call for agent {action.agent_id}: somebody else must decide")
    if name == action.agent_id.casefold():
        raise VoteRefused("an agent does not decide on its own request")


def require_open(approval_id: str, state: ApprovalState, deadline: datetime, at: datetime) -> None:
    """Raises `conflict` if the approval has ended, or its deadline has passed."""
    if state != "pending":
        raise CountersignError(f"approval {approval_id} is {state} already; a vote changes nothing", code="conflict")
    if at >= deadline:
        raise CountersignError(f"approval {approval_id} expired at {deadline:%H:%M:%S} UTC", code="conflict")


def require_digest(seen: str, wanted: str) -> None:
    """The vote is for exactly the arguments that were shown."""
    if seen != wanted:
        raise CountersignError(
            f"the vote is for {seen}, but the approval asks for {wanted}: look at it again and send its digest",
            code="digest_mismatch",
        )


def outcome_of(votes: tuple[Vote, ...]) -> Literal["approved", "rejected"] | None:
    """One rejection rejects; else one approval approves. (Quorum and stages come with approval rules.)"""
    if any(vote.vote == "reject" for vote in votes):
        return "rejected"
    return "approved" if votes else None
