"""The commands that services send one another, each with its reply."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from .actions import Execution, Reason
from .catalogue import Document, FileError, ToolRecord
from .command import Command, Done, Rpc
from .control import DeclaredChange, Stop, StopScope
from .fleet import AgentDescription, AgentPhase, AgentRecord, AgentStatus, AgentType
from .ids import AgentId, RequestId, SessionId, ToolName
from .model import Frozen, Time

# --- policy ---------------------------------------------------------------------------------------


class CancelAction(Command):
    """Withdraw an action that is not granted yet. Policy arbitrates, since it owns the decision."""

    rpc: ClassVar[Rpc] = Rpc("policy", "cancel_action")
    reply: ClassVar[type[Frozen]] = Done
    request_id: RequestId
    agent_id: AgentId
    by: str
    reason: str | None = None


# --- declared changes: the same two steps at policy, executor and registry -------------------------


class ChangePlan(Frozen):
    """What a service would do with its part of a change. With errors, nothing of the change is applied anywhere."""

    errors: tuple[FileError, ...] = ()
    changes: tuple[DeclaredChange, ...] = ()
    base: str = Field(description="the owner's present version; the commit is refused if it has moved")


class PrepareChange(Command):
    """Validate the documents of one's own kind; the others are there for references."""

    reply: ClassVar[type[Frozen]] = ChangePlan
    change_id: str
    by: str | None = Field(default=None, description="who wants it")
    documents: tuple[Document, ...]


class CommitChange(Command):
    """Apply what was prepared, in one transaction; again is harmless."""

    reply: ClassVar[type[Frozen]] = ChangePlan
    change_id: str
    base: str
    by: str
    documents: tuple[Document, ...]


class PreparePolicies(PrepareChange):
    rpc: ClassVar[Rpc] = Rpc("policy", "prepare_change", timeout_s=20)


class CommitPolicies(CommitChange):
    rpc: ClassVar[Rpc] = Rpc("policy", "commit_change", timeout_s=20)


class PrepareCatalogue(PrepareChange):
    rpc: ClassVar[Rpc] = Rpc("executor", "prepare_change", timeout_s=20)


class CommitCatalogue(CommitChange):
    rpc: ClassVar[Rpc] = Rpc("executor", "commit_change", timeout_s=20)


class PrepareAgents(PrepareChange):
    rpc: ClassVar[Rpc] = Rpc("registry", "prepare_change", timeout_s=20)


class CommitAgents(CommitChange):
    rpc: ClassVar[Rpc] = Rpc("registry", "commit_change", timeout_s=20)


# --- executor ---------------------------------------------------------------------------------------


class Stops(Frozen):
    items: tuple[Stop, ...]


class SetStop(Command):
    """After the reply no execution in the scope starts."""

    rpc: ClassVar[Rpc] = Rpc("executor", "set_stop", callers=("gateway", "slack"))
    reply: ClassVar[type[Frozen]] = Stop
    scope: StopScope
    reason: str = Field(min_length=1, max_length=2000)
    by: str


class LiftStop(Command):
    rpc: ClassVar[Rpc] = Rpc("executor", "lift_stop")
    reply: ClassVar[type[Frozen]] = Stop
    stop_id: str
    by: str


class ListStops(Command):
    rpc: ClassVar[Rpc] = Rpc("executor", "list_stops")
    reply: ClassVar[type[Frozen]] = Stops
    lifted: bool = Field(default=False, description="lifted ones too")


class Facts(Frozen):
    """Reasons to deny; empty where nothing speaks against it."""

    denials: tuple[Reason, ...] = ()


class LookUpFacts(Command):
    """Check a tool's facts for given arguments by their declared read-only lookups."""

    rpc: ClassVar[Rpc] = Rpc("executor", "look_up_facts", callers=("policy",), timeout_s=15)
    reply: ClassVar[type[Frozen]] = Facts
    request_id: RequestId
    tool: ToolName
    tool_version: int
    args: dict[str, Any]


class ExecutionView(Frozen):
    """An execution as the executor's row has it."""

    request_id: RequestId
    state: Literal["authorised", "started", "succeeded", "failed", "unknown", "refused"]
    fence: int
    execution: Execution | None = None
    reconciled: Literal["succeeded", "failed"] | None = None


class GetExecution(Command):
    rpc: ClassVar[Rpc] = Rpc("executor", "get_execution")
    reply: ClassVar[type[Frozen]] = ExecutionView
    request_id: RequestId


class ReconcileAction(Command):
    """Say what became of an ``unknown`` outcome."""

    rpc: ClassVar[Rpc] = Rpc("executor", "reconcile")
    reply: ClassVar[type[Frozen]] = ExecutionView
    request_id: RequestId
    outcome: Literal["succeeded", "failed"]
    by: str
    note: str = Field(min_length=1, max_length=2000)


class Tools(Frozen):
    items: tuple[ToolRecord, ...]


class ListTools(Command):
    rpc: ClassVar[Rpc] = Rpc("executor", "list_tools")
    reply: ClassVar[type[Frozen]] = Tools


# --- audit ------------------------------------------------------------------------------------------


class Receipt(Frozen):
    """Audit's word that the events are in the ledger."""

    event_ids: tuple[str, ...] = Field(description="those that are on record, in the order asked")
    head: int = Field(description="sequence of the ledger's last entry when it answered")


class ConfirmOnRecord(Command):
    """Answered when every event is in the ledger, or with those that are once ``wait_s`` has passed."""

    rpc: ClassVar[Rpc] = Rpc("audit", "on_record", callers=("executor", "gateway"))
    reply: ClassVar[type[Frozen]] = Receipt
    event_ids: tuple[str, ...] = Field(max_length=1024)
    wait_s: float = Field(default=3, ge=0, le=4)


class TimelineEntry(Frozen):
    """One ledger entry as a person reads it."""

    seq: int
    at: Time
    recorded_at: Time
    kind: str = Field(description="event type without prefix and version, e.g. `actions.granted`")
    event_id: str
    source: str
    agent_id: str | None = None
    session_id: str | None = None
    request_id: str | None = None
    body: dict[str, Any]
    hash: str


class Timeline(Frozen):
    items: tuple[TimelineEntry, ...]
    next: int | None = Field(default=None, description="pass as `after` for the next page")


class ReadTimeline(Command):
    """Entries in the order of the ledger; a page ends early where it would not fit into one message."""

    rpc: ClassVar[Rpc] = Rpc("audit", "timeline")
    reply: ClassVar[type[Frozen]] = Timeline
    agent_id: AgentId | None = None
    session_id: SessionId | None = None
    request_id: RequestId | None = None
    kind: str | None = Field(default=None, max_length=128, description="what the kind begins with, e.g. `actions.`")
    since: Time | None = Field(default=None, description="happened at this time or later")
    until: Time | None = Field(default=None, description="happened before this time")
    after: int = Field(default=0, ge=0)
    limit: int = Field(default=100, ge=1, le=500)
    newest_first: bool = False


class ExportPage(Frozen):
    """Some lines of an export (see countersign_ledger.export)."""

    lines: tuple[str, ...] = Field(description="without their line feeds; write one after each")
    next: int | None = Field(default=None, description="first sequence of the next page; none: the export is complete")
    last_seq: int


class ExportLedger(Command):
    """A page of an export; the first page signs a checkpoint over the head and carries the header."""

    rpc: ClassVar[Rpc] = Rpc("audit", "export", timeout_s=20)
    reply: ClassVar[type[Frozen]] = ExportPage
    first_seq: int = Field(default=1, ge=1)
    next: int | None = None
    last_seq: int | None = Field(default=None, description="from the first page: where the export ends")


class LedgerHead(Frozen):
    seq: int
    hash: str
    checkpoint_seq: int


class GetLedgerHead(Command):
    rpc: ClassVar[Rpc] = Rpc("audit", "head")
    reply: ClassVar[type[Frozen]] = LedgerHead


# --- registry ---------------------------------------------------------------------------------------


class AgentView(Frozen):
    """An agent and when it was last heard of."""

    agent: AgentRecord
    created_at: Time
    last_seen: Time | None = None
    heartbeat: dict[str, Any] | None = None
    phase: AgentPhase = "registered"
    phase_since: Time | None = None
    phase_cause: str | None = None


class Agents(Frozen):
    items: tuple[AgentView, ...]
    next: str | None = None


class IssuedCredentials(Frozen):
    """Secrets, shown once. ``nats_creds`` is the text of a NATS credentials file."""

    agent_id: AgentId
    http_token: str | None = None
    nats_creds: str | None = None
    credential_ids: tuple[str, ...]
    expires_at: Time | None = None
    revision: int


class RegisterAgent(AgentDescription, Command):
    rpc: ClassVar[Rpc] = Rpc("registry", "register")
    reply: ClassVar[type[Frozen]] = AgentView
    agent_id: AgentId
    by: str


class ListAgents(Command):
    rpc: ClassVar[Rpc] = Rpc("registry", "list")
    reply: ClassVar[type[Frozen]] = Agents
    status: AgentStatus | None = None
    phase: AgentPhase | None = None
    team: str | None = None
    agent_type: AgentType | None = None
    limit: int = Field(default=100, ge=1, le=500)
    after: str | None = None


class GetAgent(Command):
    rpc: ClassVar[Rpc] = Rpc("registry", "get")
    reply: ClassVar[type[Frozen]] = AgentView
    agent_id: AgentId


class SetAgentStatus(Command):
    """Pause, resume or revoke. Revoking is for good and voids every credential."""

    rpc: ClassVar[Rpc] = Rpc("registry", "set_status", timeout_s=10)
    reply: ClassVar[type[Frozen]] = AgentView
    agent_id: AgentId
    status: AgentStatus
    reason: str = Field(min_length=1, max_length=2000)
    by: str


class IssueCredentials(Command):
    """New credentials of the given kinds; ``replace`` voids the older ones of those kinds."""

    rpc: ClassVar[Rpc] = Rpc("registry", "issue_credentials", timeout_s=10)
    reply: ClassVar[type[Frozen]] = IssuedCredentials
    agent_id: AgentId
    kinds: tuple[Literal["http", "nats"], ...] = ("http", "nats")
    lifetime_s: int | None = Field(default=None, gt=0, le=31_536_000)
    replace: bool = False
    by: str
