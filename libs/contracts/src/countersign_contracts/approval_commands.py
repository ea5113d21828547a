"""The commands that the approvals service answers, each with its reply."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from .actions import Action, Decision
from .approvals import ApprovalState, Vote
from .command import Command, Rpc
from .ids import AgentId, Digest, RequestId
from .model import Frozen, Time


class ApprovalView(Frozen):
    """An approval with everything a person needs to decide."""

    approval_id: str
    state: ApprovalState
    action: Action
    shown_args: dict[str, Any] | None = Field(
        default=None, description="the arguments as people can be shown them, where some are sensitive"
    )
    decision: Decision
    owner_team: str
    owner_oncall: str | None = None
    requested_at: Time
    deadline: Time
    votes: tuple[Vote, ...] = ()
    resolved_at: Time | None = None


class Approvals(Frozen):
    items: tuple[ApprovalView, ...]
    next: str | None = Field(default=None, description="pass as `after` for the next page")


class ListApprovals(Command):
    """Newest first."""

    rpc: ClassVar[Rpc] = Rpc("approvals", "list")
    reply: ClassVar[type[Frozen]] = Approvals
    state: ApprovalState | None = None
    agent_id: AgentId | None = None
    request_id: RequestId | None = None
    limit: int = Field(default=50, ge=1, le=200)
    after: str | None = None


class GetApproval(Command):
    rpc: ClassVar[Rpc] = Rpc("approvals", "get")
    reply: ClassVar[type[Frozen]] = ApprovalView
    approval_id: str


class CastVote(Command):
    """A vote; ``digest`` is the one the voter saw."""

    rpc: ClassVar[Rpc] = Rpc("approvals", "vote")
    reply: ClassVar[type[Frozen]] = ApprovalView
    approval_id: str
    voter: str
    vote: Literal["approve", "reject"]
    digest: Digest
    channel: Literal["http", "cli", "slack"]
    comment: str | None = Field(default=None, max_length=2000)
