"""The events of an approval, and what one more vote makes of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from countersign_contracts.approvals import (
    Amendment,
    ApprovalAdvanced,
    ApprovalRequested,
    ApprovalResolved,
    ApprovalVoted,
    Vote,
)
from countersign_contracts.event import Event

from .rules import outcome_of, stages_done
from .store import Approval

Ended = Literal["approved", "rejected", "expired", "cancelled", "amended"]


@dataclass(frozen=True, slots=True)
class Counted:
    """An approval after one more vote, and what is told of it; ``ended`` if that ended it."""

    approval: Approval
    events: tuple[Event, ...]
    ended: Ended | None


def count(approval: Approval, vote: Vote, at: datetime, amendment: Amendment | None = None) -> Counted:
    """What an admitted vote does. With an ``amendment`` it ends the approval: another action takes its place."""
    votes = (*approval.votes, vote)
    ended: Ended | None = "amended" if amendment is not None else outcome_of(approval.rule, votes)
    after = replace(approval, votes=votes, amendment=amendment)
    events: list[Event] = [
        ApprovalVoted(approval_id=approval.approval_id, action=approval.held.action.ref(), vote=vote)
    ]
    if ended is None:
        events += advanced(after, approval.votes, at)
    else:
        after = replace(after, state=ended, resolved_at=at)
        events.append(resolved(after, ended, at))
    return Counted(after, tuple(events), ended)


def advanced(approval: Approval, before: tuple[Vote, ...], at: datetime) -> Iterable[Event]:
    """The stages that are done since the votes were those ``before``."""
    for stage in stages_done(approval.rule, before, approval.votes):
        yield ApprovalAdvanced(
            approval_id=approval.approval_id,
            action=approval.held.action.ref(),
            stage=stage,
            at=at,
            nth=1 + len(approval.voided),
        )


def requested(approval: Approval) -> ApprovalRequested:
    """People are asked."""
    return ApprovalRequested(
        approval_id=approval.approval_id,
        action=approval.held.action.ref(),
        requested_at=approval.requested_at,
        deadline=approval.deadline,
        asked_by=approval.rule,
        amends=approval.held.action.amends,
    )


def resolved(approval: Approval, state: Ended, at: datetime) -> ApprovalResolved:
    """The approval ended."""
    return ApprovalResolved(
        approval_id=approval.approval_id,
        action=approval.held.action.ref(),
        state=state,
        votes=approval.votes,
        resolved_at=at,
        amendment=approval.amendment,
    )


def everything(approval: Approval) -> list[tuple[Event, str | None]]:
    """What was told of an approval that an earlier version asked for, which kept no events."""
    events: list[Event] = [requested(approval)]
    ref = approval.held.action.ref()
    events += [ApprovalVoted(approval_id=approval.approval_id, action=ref, vote=vote) for vote in approval.votes]
    if approval.state != "pending" and approval.resolved_at is not None:
        events.append(resolved(approval, approval.state, approval.resolved_at))
    return [(event, approval.traceparent) for event in events]
