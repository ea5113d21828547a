"""The action, its decision, its execution, and the events of stream ``ACTIONS``."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from .canonical import action_digest
from .errors import Malformed
from .event import Event, Spec
from .ids import AgentId, Digest, Env, PrincipalId, ProfileName, RequestId, SessionId, ToolName
from .model import Frozen, Time
from .sealed import has_sealed

Effect = Literal["read", "write", "destructive", "external"]
Risk = Literal["low", "medium", "high", "critical"]
#: The longest principal chain.
MOST_PRINCIPALS = 16

State = Literal[
    "accepted",
    "held",
    "granted",
    "executing",
    "succeeded",
    "failed",
    "unknown",
    "denied",
    "expired",
    "cancelled",
]
#: ``unknown`` is final for the pipeline: only a person or a probe moves it on, by reconciling.
FINAL_STATES: frozenset[State] = frozenset({"succeeded", "failed", "unknown", "denied", "expired", "cancelled"})


class Action(Frozen):
    """One request to invoke one tool with given arguments in one environment."""

    request_id: RequestId
    agent_id: AgentId
    principal_chain: tuple[PrincipalId, ...] = Field(
        default=(), max_length=MOST_PRINCIPALS, description="whom the agent acts for, outermost first (RFC 8693 `act`)"
    )
    session_id: SessionId | None = None
    env: Env
    tool: ToolName
    tool_version: int = Field(ge=0, description="the catalogue's version of the tool; 0: not in the catalogue")
    args: dict[str, Any]
    reason: str | None = Field(default=None, max_length=2000, description="why the agent wants it, in its words")
    digest: Digest
    requested_at: Time
    amends: RequestId | None = Field(default=None, description="the action that an approver changed into this one")
    sealed_for: RequestId | None = Field(
        default=None, description="the action that its sensitive arguments were sealed for, where it is another"
    )

    def computed_digest(self) -> str:
        """The digest of what this action says, to compare with the one it carries."""
        return action_digest(
            agent=self.agent_id,
            principal_chain=self.principal_chain,
            session=self.session_id,
            env=self.env,
            tool=self.tool,
            tool_version=self.tool_version,
            args=self.args,
        )

    def ref(self) -> ActionRef:
        """The action without its arguments."""
        return ActionRef(
            request_id=self.request_id,
            agent_id=self.agent_id,
            session_id=self.session_id,
            env=self.env,
            tool=self.tool,
            tool_version=self.tool_version,
            digest=self.digest,
        )


class ActionRef(Frozen):
    """Which action: everything an event needs that is not about its arguments."""

    request_id: RequestId
    agent_id: AgentId
    session_id: SessionId | None = None
    env: Env
    tool: ToolName
    tool_version: int
    digest: Digest


class Reason(Frozen):
    """Why a decision came out as it did. ``code`` is stable; ``message`` is for people."""

    code: str = Field(description="e.g. `stopped`, `unknown_agent`, `field_not_allowed`, `guardrail`, `policy`")
    message: str
    policy: str | None = Field(default=None, description="id of the policy, guardrail or stop that says so")


class GuardrailUse(Frozen):
    """What one guardrail counted for this action, this action included."""

    name: str
    kind: str
    limit: float
    used: float
    window_s: int | None = None
    exceeded: bool = False


class Decision(Frozen):
    """Allow, deny or hold, always with the reasons and the ids of the policies that decided."""

    outcome: Literal["allow", "deny", "hold"]
    reasons: tuple[Reason, ...]
    policies: tuple[str, ...] = Field(default=(), description="ids of the Cedar policies that determined it")
    policy_version: str = Field(description="digest of the policy set that decided")
    profile: ProfileName | None = None
    effect: Effect | None = None
    risk: Risk | None = None
    guardrails: tuple[GuardrailUse, ...] = ()
    approval_id: str | None = None
    decided_at: Time


class Failure(Frozen):
    """Why an execution did not succeed."""

    code: str = Field(description="e.g. `downstream_status`, `timeout`, `connection`, `egress_refused`")
    message: str


class Execution(Frozen):
    """What happened downstream."""

    execution_id: str
    outcome: Literal["succeeded", "failed", "unknown"]
    attempts: int = Field(ge=0, description="calls made")
    fence: int = Field(ge=1, description="which claim of the action this is; a late result of an older one is refused")
    status_code: int | None = Field(default=None, ge=100, le=999, description="HTTP status of the last answer")
    result: Any = Field(default=None, description="the answer's JSON, or its text")
    truncated: bool = Field(default=False, description="`result` was cut at the tool's limit")
    response_sha256: str | None = Field(default=None, description="hex SHA-256 of the whole answer body as received")
    response_bytes: int | None = None
    failure: Failure | None = None
    started_at: Time | None = None
    finished_at: Time


class ActionEvent(Event):
    """An event about one action; its subject's last token is the agent's id."""

    def ref(self) -> ActionRef:
        """Which action."""
        raise NotImplementedError

    def about(self) -> str:
        return self.ref().request_id

    def token(self) -> str:
        return self.ref().agent_id


class WholeActionEvent(ActionEvent):
    """An event that carries the whole action, so that whoever takes it needs nothing else."""

    action: Action

    def ref(self) -> ActionRef:
        return self.action.ref()

    def about(self) -> str:
        return self.action.request_id

    def token(self) -> str:
        return self.action.agent_id


class ReferringEvent(ActionEvent):
    """An event about an action that an earlier event carried."""

    action: ActionRef

    def ref(self) -> ActionRef:
        return self.action


class ActionRequested(WholeActionEvent):
    """The gateway accepted an action: its row is committed, and it will end in a final event."""

    spec: ClassVar[Spec] = Spec("ACTIONS", "actions.requested.{token}", ("gateway",))
    channel: Literal["http", "nats"]
    credential_id: str = Field(description="which credential authenticated the agent; never the credential")


class ActionHeld(WholeActionEvent):
    """Policy wants a person to countersign first."""

    spec: ClassVar[Spec] = Spec("ACTIONS", "actions.held.{token}", ("policy",))
    decision: Decision
    approval_id: str
    owner_team: str
    owner_oncall: str | None = None
    deadline_s: int = Field(gt=0, description="seconds until the deadline, where no approval rule says another one")
    tool_description: str | None = None
    resource: str | None = Field(default=None, description="what it touches, from the tool's template")
    preview: str | None = Field(default=None, description="what it will do, from the tool's template")


class ActionGranted(WholeActionEvent):
    """Policy allows it; the warrant is the permission to execute exactly this digest once."""

    spec: ClassVar[Spec] = Spec("ACTIONS", "actions.granted.{token}", ("policy",))
    decision: Decision
    warrant: str = Field(description="JWT, EdDSA; see countersign_contracts.warrant")


class Amendment(Frozen):
    """What an approver made of an action: another one, which is decided again."""

    request_id: RequestId = Field(description="of the new action")
    args: dict[str, Any]
    digest: Digest = Field(description="of the new action")
    by: str


def amended(action: Action, amendment: Amendment, at: datetime) -> Action:
    """The new action: the same request with other arguments, by the same agent for the same people.

    Raises :class:`Malformed` if the amendment's digest is not that of the new action, or the arguments are the same:
    nobody agreed to exactly that.
    """
    changed = action.model_copy(
        update={
            "request_id": amendment.request_id,
            "args": amendment.args,
            "digest": amendment.digest,
            "requested_at": at,
            "amends": action.request_id,
            "sealed_for": (action.sealed_for or action.request_id) if has_sealed(amendment.args) else None,
        }
    )
    if amendment.request_id == action.request_id or amendment.digest == action.digest:
        raise Malformed("the change leaves the action as it is")
    if changed.computed_digest() != amendment.digest:
        raise Malformed("the digest of the change is not the one of its arguments")
    return changed


class ActionDenied(WholeActionEvent):
    """Policy denies it. Final."""

    spec: ClassVar[Spec] = Spec("ACTIONS", "actions.denied.{token}", ("policy",))
    decision: Decision
    amendment: Amendment | None = Field(
        default=None, description="an approver changed it: what takes its place, which the gateway accepts"
    )

    @property
    def expired(self) -> bool:
        """Whether it was denied because nobody voted in time."""
        return any(reason.code == "approval_expired" for reason in self.decision.reasons)


class ActionCancelled(ReferringEvent):
    """The requester or an operator withdrew it before it was granted. Final."""

    spec: ClassVar[Spec] = Spec("ACTIONS", "actions.cancelled.{token}", ("gateway",))
    by: str
    reason: str | None = None
    cancelled_at: Time


class ActionStarted(ReferringEvent):
    """The call is on its way and did not answer at once; emitted only for calls that last."""

    spec: ClassVar[Spec] = Spec("ACTIONS", "actions.started.{token}", ("executor",))
    execution_id: str
    fence: int
    started_at: Time

    def event_id(self) -> str:
        return f"{self.about()}.started.{self.fence}"


class ActionRefused(ReferringEvent):
    """The executor would not start a granted action (a stop, an expired warrant, a fact). Nothing ran. Final."""

    spec: ClassVar[Spec] = Spec("ACTIONS", "actions.refused.{token}", ("executor",))
    reasons: tuple[Reason, ...]
    refused_at: Time
    risk: Risk | None = None


class ActionExecuted(ReferringEvent):
    """The execution ended, as far as anyone can know. Final."""

    spec: ClassVar[Spec] = Spec("ACTIONS", "actions.executed.{token}", ("executor",))
    execution: Execution
    risk: Risk | None = None
    approved: Reason | None = Field(default=None, description="who approved it and what they said, where people did")


class ProbeEvidence(Frozen):
    """What a probe went by: which lookup, what it answered, and the value at the declared path."""

    tool: ToolName
    tool_version: int
    status_code: int
    path: str | None = None
    value: Any = None
    response_sha256: str | None = None
    probes: int = Field(ge=1, description="lookups made until it was clear, this one included")


class ActionReconciled(ReferringEvent):
    """A person or a probe found out what became of an ``unknown`` outcome."""

    spec: ClassVar[Spec] = Spec("ACTIONS", "actions.reconciled.{token}", ("executor",))
    outcome: Literal["succeeded", "failed"]
    by: str = Field(description="a person's name, or `probe:` and the tool that looked")
    note: str
    reconciled_at: Time
    probe: ProbeEvidence | None = None


class ActionResult(Frozen):
    """What an agent hears of its action: over HTTP, as reply to a call, and on its results subject."""

    request_id: RequestId
    agent_id: AgentId
    session_id: SessionId | None = None
    tool: ToolName
    env: Env
    digest: Digest
    state: State
    decision: Literal["allow", "deny", "hold"] | None = None
    risk: Risk | None = None
    reason: str | None = Field(default=None, description="why, for people")
    reasons: tuple[Reason, ...] = ()
    approval_id: str | None = None
    approval: dict[str, Any] | None = Field(
        default=None, description="while it is held: whom it waits for (see ApprovalProgress)"
    )
    superseded_by: RequestId | None = Field(default=None, description="the action that an approver changed it into")
    result: Any = None
    status_code: int | None = None
    truncated: bool = False
    at: Time

    @classmethod
    def of(cls, ref: ActionRef, state: State, at: Time, **more: Any) -> Self:
        """The result for ``ref``."""
        return cls(
            request_id=ref.request_id,
            agent_id=ref.agent_id,
            session_id=ref.session_id,
            tool=ref.tool,
            env=ref.env,
            digest=ref.digest,
            state=state,
            at=at,
            **more,
        )


class ActionView(ActionResult):
    """One action looked up: what an agent hears of it, as of now, and what it asked for."""

    action: Action

    @classmethod
    def showing(cls, result: ActionResult, action: Action) -> Self:
        """``result`` and the action that it is of."""
        return cls(action=action, **dict(result))


class ActionPage(Frozen):
    """Several actions' results, newest first."""

    items: tuple[ActionResult, ...]
    next: RequestId | None = Field(default=None, description="pass as `before` for the next page")
