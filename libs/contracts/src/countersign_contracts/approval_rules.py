"""What people declare about approvals: the rules (who, how many, in which order, until when) and webhooks."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, StringConstraints, model_validator

from .actions import Risk
from .conditions import ArgumentName, Condition
from .ids import AgentId, Env, ProfileName, ToolName
from .model import Frozen

#: Also the form of a team's name: the group of that name is the team.
GROUP_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,127}$"
PERSON_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$"
GroupName = Annotated[str, StringConstraints(pattern=GROUP_PATTERN)]
PersonName = Annotated[str, StringConstraints(pattern=PERSON_PATTERN)]
RuleName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
#: The rule where no declared one matches.
DEFAULT_RULE = "default"


#: Whom a stage asks. `anyone`: every person with role approver; `owner:oncall` and `owner:team`: of the agent's owner,
#: the team being the group of its name.
Approver = Annotated[
    str,
    StringConstraints(
        pattern=r"^(anyone|owner:oncall|owner:team|group:[A-Za-z0-9][A-Za-z0-9 ._-]{0,127}"
        r"|person:[A-Za-z0-9][A-Za-z0-9._@+-]{0,127})$"
    ),
]

#: How sure it must be who votes. `strong`: with a fresh one-time code, over HTTP or the CLI.
Assurance = Literal["basic", "strong"]
#: How an approver may narrow an argument: a number to a lower one, a list to some of its items, or leave it out.
Narrowing = Literal["lower", "subset", "remove"]


class Stage(Frozen):
    """Who must approve at one point; stages follow one another."""

    name: RuleName
    approvers: tuple[Approver, ...] = Field(min_length=1, max_length=64)
    quorum: int = Field(default=1, ge=1, le=64, description="how many different people must approve")
    assurance: Assurance = "basic"


class EscalationStep(Frozen):
    """Nobody ended the approval in time: further people are asked, and may vote in the stage that is open then."""

    after_s: int = Field(gt=0, le=2_592_000, description="seconds after the request")
    to: tuple[Approver, ...] = Field(min_length=1, max_length=64)


class StandingLimits(Frozen):
    """How far `approve, and allow alike` may go."""

    max_uses: int = Field(ge=1, le=10_000)
    max_s: int = Field(ge=1, le=604_800, description="longest time in force, in seconds")


class RuleCondition(Frozen):
    """Everything a rule asks of an action; what is not given holds for every action."""

    tools: tuple[ToolName, ...] = ()
    environments: tuple[Env, ...] = ()
    risks: tuple[Risk, ...] = ()
    profiles: tuple[ProfileName, ...] = ()
    agents: tuple[AgentId, ...] = ()
    arguments: tuple[Condition, ...] = Field(default=(), description="all of them must hold")


class ApprovalRule(Frozen):
    """How approvals are given for the actions it matches.

    The matching rule with the highest priority counts; with equal ones, the first by name. Where none matches, one
    person with role approver decides.
    """

    kind: Literal["approval_rule"] = "approval_rule"
    name: RuleName
    description: str = Field(default="", max_length=2000)
    priority: int = Field(default=0, ge=-1000, le=1000)
    match: RuleCondition = RuleCondition()
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=8)
    deny_threshold: int = Field(default=1, ge=1, le=64, description="how many rejections reject")
    deadline_s: int | None = Field(default=None, gt=0, le=2_592_000, description="none: the profile's")
    at_deadline: Literal["deny", "pause"] = Field(default="deny", description="pause: it waits until someone acts")
    remind_after_s: tuple[Annotated[int, Field(gt=0, le=2_592_000)], ...] = Field(default=(), max_length=16)
    escalate: tuple[EscalationStep, ...] = Field(default=(), max_length=16)
    allow_own: bool = Field(
        default=False, description="people may decide on their own agent's action and on what is made on their behalf"
    )
    changes: dict[ArgumentName, Narrowing] = Field(
        default_factory=dict, description="what an approver may narrow while approving"
    )
    standing: StandingLimits | None = Field(default=None, description="none: nothing is allowed ahead")

    @model_validator(mode="after")
    def _sound(self) -> ApprovalRule:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError("two stages have the same name")
        for stage in self.stages:
            people = [approver for approver in stage.approvers if approver.startswith("person:")]
            if len(people) == len(stage.approvers) < stage.quorum:
                raise ValueError(f"stage `{stage.name}` needs {stage.quorum} people and names {len(people)}")
        return self


ApprovalHook = Literal["requested", "voted", "advanced", "reminded", "escalated", "overdue", "resolved"]
AlertHook = Literal["alert_raised", "alert_acknowledged", "alert_resolved"]
WebhookEvent = Literal[ApprovalHook, AlertHook]
#: Of approvals: what a webhook gets that names none.
WEBHOOK_EVENTS: tuple[WebhookEvent, ...] = get_args(ApprovalHook)
#: Of alerts about agents: a webhook gets those that it names, of rules with a route to it.
ALERT_HOOKS: tuple[WebhookEvent, ...] = get_args(AlertHook)


class Webhook(Frozen):
    """Where events of approvals and of alerts are posted, signed (Standard Webhooks: HMAC-SHA256)."""

    kind: Literal["webhook"] = "webhook"
    name: RuleName
    url: str = Field(max_length=2048, description="https; http to loopback and private addresses only")
    events: tuple[WebhookEvent, ...] = Field(default=WEBHOOK_EVENTS, min_length=1)
    secret: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")] = Field(
        description="name of the signing secret in the approvals service's secrets"
    )
    allow_private: bool = Field(default=False, description="the host may be a loopback or private address")
    enabled: bool = True
