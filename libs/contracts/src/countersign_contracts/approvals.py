"""The approval, its votes, and the events of stream ``APPROVALS``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from .actions import ActionRef
from .event import Event, Spec
from .ids import Digest
from .model import Frozen, Time

ApprovalState = Literal["pending", "approved", "rejected", "expired", "cancelled"]
APPROVAL_STATES: tuple[ApprovalState, ...] = ("pending", "approved", "rejected", "expired", "cancelled")


class Vote(Frozen):
    """One person's vote on the arguments that the digest names."""

    voter: str
    vote: Literal["approve", "reject"]
    digest: Digest
    channel: Literal["http", "cli", "slack"]
    comment: str | None = Field(default=None, max_length=2000)
    voted_at: Time


class ApprovalEvent(Event):
    """An event about one approval."""

    approval_id: str
    action: ActionRef

    def about(self) -> str:
        return self.action.request_id

    def token(self) -> str:
        return self.approval_id

    def event_id(self) -> str:
        return f"{self.approval_id}.{self.spec.name}"


class ApprovalRequested(ApprovalEvent):
    """People are asked."""

    spec: ClassVar[Spec] = Spec("APPROVALS", "approvals.requested.{token}", ("approvals",))
    requested_at: Time
    deadline: Time


class ApprovalVoted(ApprovalEvent):
    """A person voted."""

    spec: ClassVar[Spec] = Spec("APPROVALS", "approvals.voted.{token}", ("approvals",))
    vote: Vote

    def event_id(self) -> str:
        return f"{self.approval_id}.voted.{self.vote.voter}"


class ApprovalEscalated(ApprovalEvent):
    """Nobody voted so far; somebody further is asked."""

    spec: ClassVar[Spec] = Spec("APPROVALS", "approvals.escalated.{token}", ("approvals",))
    step: int
    to: str
    escalated_at: Time

    def event_id(self) -> str:
        return f"{self.approval_id}.escalated.{self.step}"


class ApprovalResolved(ApprovalEvent):
    """The approval ended."""

    spec: ClassVar[Spec] = Spec("APPROVALS", "approvals.resolved.{token}", ("approvals",))
    state: Literal["approved", "rejected", "expired", "cancelled"]
    votes: tuple[Vote, ...] = ()
    resolved_at: Time
