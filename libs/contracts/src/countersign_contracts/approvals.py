"""The approval, its votes, and the events of stream ``APPROVALS``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from pydantic import Field

from .actions import ActionRef
from .actions import Amendment as Amendment
from .approval_rules import DEFAULT_RULE, Approver, Assurance, Narrowing, RuleName, Stage, StandingLimits
from .conditions import ArgumentName
from .event import Event, Spec
from .ids import AgentId, Digest, Env, RequestId, ToolName
from .model import Frozen, Time

#: ``amended``: approved with changes; what runs is another action, decided again.
ApprovalState = Literal["pending", "approved", "rejected", "expired", "cancelled", "amended"]
#: Where a vote came from. ``standing``: given ahead, by who approved an alike action before.
Channel = Literal["http", "cli", "slack", "standing"]


class StandingOffer(Frozen):
    """What a voter wants to allow ahead: the same tool by the same agent in the same environment."""

    resource: str = Field(
        min_length=1, max_length=512, description="the resource, or a pattern of it where `*` is any text"
    )
    until: Time
    max_uses: int = Field(ge=1, le=10_000)


class Vote(Frozen):
    """One person's vote on the arguments that the digest names."""

    voter: str
    vote: Literal["approve", "reject"]
    digest: Digest
    channel: Channel
    comment: str | None = Field(default=None, max_length=2000)
    voted_at: Time
    stage: RuleName | None = Field(default=None, description="the stage it counts in")
    assurance: Assurance = "basic"
    own: str | None = Field(default=None, description="what ties the voter to the action, where the rule allows that")
    changes: dict[ArgumentName, Any] | None = Field(
        default=None, description="approved with these arguments instead; null: left out"
    )
    standing: StandingOffer | None = Field(default=None, description="what the voter allows ahead with it")
    standing_id: str | None = Field(default=None, description="the standing approval that it comes from")
    nth: int = Field(default=1, ge=1, description="of this person on this approval: earlier ones were voided")


class AskedBy(Frozen):
    """The rule as it was when people were asked: it stays in force for this approval."""

    rule: RuleName = DEFAULT_RULE
    version: int = Field(default=0, ge=0, description="of the rule; 0: the default rule")
    stages: tuple[Stage, ...] = (Stage(name="decision", approvers=("anyone",)),)
    deny_threshold: int = Field(default=1, ge=1)
    at_deadline: Literal["deny", "pause"] = "deny"
    allow_own: bool = False
    changes: dict[ArgumentName, Narrowing] = Field(default_factory=dict)
    standing: StandingLimits | None = None


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


def _nth(name: str, nth: int) -> str:
    return name if nth == 1 else f"{name}:{nth}"  # no name holds a colon


class ApprovalRequested(ApprovalEvent):
    """People are asked."""

    spec: ClassVar[Spec] = Spec("APPROVALS", "approvals.requested.{token}", ("approvals",))
    requested_at: Time
    deadline: Time
    asked_by: AskedBy = AskedBy()
    amends: RequestId | None = Field(default=None, description="the action that was changed into this one")


class ApprovalVoted(ApprovalEvent):
    """A person voted."""

    spec: ClassVar[Spec] = Spec("APPROVALS", "approvals.voted.{token}", ("approvals",))
    vote: Vote

    def event_id(self) -> str:
        return f"{self.approval_id}.voted.{_nth(self.vote.voter, self.vote.nth)}"


class ApprovalVoteVoided(ApprovalEvent):
    """A vote counts no more: who cast it is not entitled any longer."""

    spec: ClassVar[Spec] = Spec("APPROVALS", "approvals.vote_voided.{token}", ("approvals",))
    voter: str
    reason: str
    voided_at: Time
    nth: int = Field(default=1, ge=1, description="which of this person's votes on this approval")

    def event_id(self) -> str:
        return f"{self.approval_id}.vote_voided.{_nth(self.voter, self.nth)}"


class ApprovalVoteRefused(ApprovalEvent):
    """A vote did not count, and why. Nothing came of it."""

    spec: ClassVar[Spec] = Spec("APPROVALS", "approvals.vote_refused.{token}", ("approvals",))
    refusal: str = Field(description="makes the event's id unique")
    voter: str | None = Field(default=None, description="none: who voted is enrolled to nobody")
    channel: Channel
    identity: str | None = Field(default=None, max_length=256, description="who voted, as the channel calls them")
    code: str = Field(description="e.g. `not_entitled`, `digest_mismatch`, `conflict`, `assurance`")
    reason: str
    refused_at: Time

    def event_id(self) -> str:
        return f"{self.approval_id}.vote_refused.{self.refusal}"


class ApprovalAdvanced(ApprovalEvent):
    """A stage has its quorum; the next one is open."""

    spec: ClassVar[Spec] = Spec("APPROVALS", "approvals.advanced.{token}", ("approvals",))
    stage: RuleName
    at: Time
    nth: int = Field(default=1, ge=1, description="grows with each vote that was voided: a stage may open again")

    def event_id(self) -> str:
        return f"{self.approval_id}.advanced.{_nth(self.stage, self.nth)}"


class ApprovalReminded(ApprovalEvent):
    """Nobody ended it so far; those who were asked are asked again."""

    spec: ClassVar[Spec] = Spec("APPROVALS", "approvals.reminded.{token}", ("approvals",))
    step: int
    to: tuple[Approver, ...]
    reminded_at: Time

    def event_id(self) -> str:
        return f"{self.approval_id}.reminded.{self.step}"


class ApprovalEscalated(ApprovalEvent):
    """Nobody ended it so far; further people are asked, and may vote."""

    spec: ClassVar[Spec] = Spec("APPROVALS", "approvals.escalated.{token}", ("approvals",))
    step: int
    to: tuple[Approver, ...]
    escalated_at: Time

    def event_id(self) -> str:
        return f"{self.approval_id}.escalated.{self.step}"


class ApprovalOverdue(ApprovalEvent):
    """The deadline has passed, and the rule keeps the approval open until someone acts."""

    spec: ClassVar[Spec] = Spec("APPROVALS", "approvals.overdue.{token}", ("approvals",))
    deadline: Time
    at: Time


class ApprovalResolved(ApprovalEvent):
    """The approval ended."""

    spec: ClassVar[Spec] = Spec("APPROVALS", "approvals.resolved.{token}", ("approvals",))
    state: Literal["approved", "rejected", "expired", "cancelled", "amended"]
    votes: tuple[Vote, ...] = Field(default=(), description="those that count")
    resolved_at: Time
    amendment: Amendment | None = None


class Standing(Frozen):
    """A standing approval: alike actions are approved by it, so many times, until then."""

    standing_id: str
    approval_id: str = Field(description="the approval it was given with")
    agent_id: AgentId
    tool: ToolName
    env: Env
    resource: str = Field(description="pattern; `*` is any text")
    granted_by: tuple[str, ...]
    granted_at: Time
    until: Time
    max_uses: int
    used: int = 0
    revoked_by: str | None = None
    revoked_at: Time | None = None


class StandingEvent(Event):
    """An event about one standing approval."""

    standing: Standing

    def about(self) -> str:
        return self.standing.standing_id


class StandingGranted(StandingEvent):
    """Alike actions are approved ahead, within bounds."""

    spec: ClassVar[Spec] = Spec("APPROVALS", "approvals.standing_granted.{token}", ("approvals",))


class StandingRevoked(StandingEvent):
    """Nothing is approved by it any more."""

    spec: ClassVar[Spec] = Spec("APPROVALS", "approvals.standing_revoked.{token}", ("approvals",))
    reason: str


class ApprovalProgress(Frozen):
    """What the requester hears of an approval while it waits."""

    approval_id: str
    said: Literal["requested", "voted", "advanced", "reminded", "escalated", "overdue", "vote_voided"]
    waits_for: tuple[str, ...] = Field(description="in words: `2 of group:security`")
    deadline: Time
    voters: tuple[str, ...] = Field(default=(), description="who approved so far")


def approved_by(stage: Stage, asked_by: AskedBy, votes: Iterable[Vote]) -> tuple[str, ...]:
    """Who approved in a stage, each person once; a vote that names no stage counts in the first."""
    first = asked_by.stages[0].name
    return tuple(
        dict.fromkeys(vote.voter for vote in votes if vote.vote == "approve" and (vote.stage or first) == stage.name)
    )


def open_stage(asked_by: AskedBy, votes: Iterable[Vote]) -> int | None:
    """The place of the first stage that lacks people; none once every stage has its quorum."""
    counted = tuple(votes)
    for place, stage in enumerate(asked_by.stages):
        if len(approved_by(stage, asked_by, counted)) < stage.quorum:
            return place
    return None


def waits_for(asked_by: AskedBy, votes: Iterable[Vote], escalated: Iterable[Approver] = ()) -> tuple[str, ...]:
    """Whom an approval waits for, in words, one line for each stage that is not done, the open one first.

    For example ``1 more of group:security or person:ann`` and ``then 2 of owner:team``. ``escalated`` are the approvers
    asked besides, in the stage that is open. Nothing, once every stage has its quorum.
    """
    counted = tuple(votes)
    place = open_stage(asked_by, counted)
    if place is None:
        return ()
    stage = asked_by.stages[place]
    lacking = stage.quorum - len(approved_by(stage, asked_by, counted))
    words = [_lacking(lacking, (*stage.approvers, *escalated), more=lacking < stage.quorum)]
    words += [f"then {_lacking(later.quorum, later.approvers, more=False)}" for later in asked_by.stages[place + 1 :]]
    return tuple(words)


def _lacking(people: int, approvers: Iterable[Approver], *, more: bool) -> str:
    asked = tuple(dict.fromkeys(approvers))
    count = f"{people} more" if more else str(people)
    if "anyone" in asked:
        return f"{count} approver{'s' if people > 1 else ''}"
    return f"{count} of {' or '.join(asked)}"
