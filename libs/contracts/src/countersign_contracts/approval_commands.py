"""The commands that the approvals service answers, each with its reply."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints

from .actions import Action, Decision, Risk
from .approval_rules import Approver, Assurance
from .approvals import ApprovalState, AskedBy, Channel, Standing, StandingOffer, Vote
from .command import Command, Rpc
from .commands import CommitChange, PrepareChange
from .conditions import ArgumentName
from .ids import AgentId, Digest, Env, RequestId, ToolName
from .model import Frozen, Time


class StageView(Frozen):
    """A stage and how far it is."""

    name: str
    approvers: tuple[Approver, ...] = Field(description="whom it asks, escalations included")
    people: tuple[str, ...] = Field(default=(), description="who may vote in it now, by name; at most 50")
    quorum: int
    assurance: Assurance
    approved_by: tuple[str, ...] = ()
    state: Literal["waiting", "open", "done"]


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
    tool_description: str | None = None
    resource: str | None = Field(default=None, description="what it touches")
    preview: str | None = Field(default=None, description="what it will do, from the tool's template")
    requested_at: Time
    deadline: Time
    overdue: bool = Field(default=False, description="the deadline has passed, and the rule keeps it open")
    asked_by: AskedBy = AskedBy()
    stages: tuple[StageView, ...] = ()
    waits_for: tuple[str, ...] = Field(default=(), description="in words: `2 of group:security`")
    escalated_to: tuple[Approver, ...] = ()
    votes: tuple[Vote, ...] = ()
    resolved_at: Time | None = None
    amends: RequestId | None = Field(default=None, description="the action that was changed into this one")
    amended_as: RequestId | None = Field(default=None, description="the action that this one was changed into")


class Approvals(Frozen):
    items: tuple[ApprovalView, ...]
    next: str | None = Field(default=None, description="pass as `after` for the next page")


class ListApprovals(Command):
    """Newest first."""

    rpc: ClassVar[Rpc] = Rpc("approvals", "list", callers=("gateway", "slack"))
    reply: ClassVar[type[Frozen]] = Approvals
    state: ApprovalState | None = None
    agent_id: AgentId | None = None
    request_id: RequestId | None = None
    tool: ToolName | None = None
    env: Env | None = None
    risk: Risk | None = None
    voter: str | None = Field(default=None, description="only what this person may vote on now")
    limit: int = Field(default=50, ge=1, le=200)
    after: str | None = None


class GetApproval(Command):
    rpc: ClassVar[Rpc] = Rpc("approvals", "get", callers=("gateway", "slack"))
    reply: ClassVar[type[Frozen]] = ApprovalView
    approval_id: str


#: Who votes: `person:<name>`, as the gateway knows from the token; or who they are in a channel, `slack:<team>/<user>`,
#: where the approver who confirmed to be that is looked up.
Voter = Annotated[
    str,
    StringConstraints(pattern=r"^(person:[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}|slack:[A-Z0-9]{1,32}/[A-Z0-9]{1,32})$"),
]


class CastVote(Command):
    """A vote; ``digest`` is the one the voter saw."""

    rpc: ClassVar[Rpc] = Rpc("approvals", "vote", callers=("gateway", "slack"))
    reply: ClassVar[type[Frozen]] = ApprovalView
    approval_id: str
    voter: Voter
    vote: Literal["approve", "reject"]
    digest: Digest
    channel: Channel
    comment: str | None = Field(default=None, max_length=2000)
    assurance: Assurance = "basic"
    changes: dict[ArgumentName, Any] | None = None
    standing: StandingOffer | None = None


class Standings(Frozen):
    items: tuple[Standing, ...]
    next: str | None = Field(default=None, description="pass as `after` for the next page")


class ListStandings(Command):
    """Newest first."""

    rpc: ClassVar[Rpc] = Rpc("approvals", "list_standings", callers=("gateway", "slack"))
    reply: ClassVar[type[Frozen]] = Standings
    in_force: bool = Field(default=True, description="only what is neither used up, past nor revoked")
    agent_id: AgentId | None = None
    limit: int = Field(default=50, ge=1, le=200)
    after: str | None = None


class RevokeStanding(Command):
    """Once this is answered, nothing more is approved by it."""

    rpc: ClassVar[Rpc] = Rpc("approvals", "revoke_standing", callers=("gateway", "slack"))
    reply: ClassVar[type[Frozen]] = Standing
    standing_id: str
    by: str
    reason: str = Field(min_length=1, max_length=2000)


class PrepareApprovalRules(PrepareChange):
    rpc: ClassVar[Rpc] = Rpc("approvals", "prepare_change", timeout_s=20)


class CommitApprovalRules(CommitChange):
    rpc: ClassVar[Rpc] = Rpc("approvals", "commit_change", timeout_s=20)
