"""Stops, changes of what is declared, checkpoints and dead letters: streams ``CONTROL`` and ``DEADLETTER``."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from .event import SERVICES, Event, Spec
from .ids import AGENT_ID_PATTERN, ENV_PATTERN, PROFILE_NAME_PATTERN, SESSION_ID_PATTERN, TOOL_NAME_PATTERN
from .model import Frozen, Time

_SCOPES = {
    "env": ENV_PATTERN,
    "tool": TOOL_NAME_PATTERN,
    "profile": PROFILE_NAME_PATTERN,
    "agent": AGENT_ID_PATTERN,
    "session": SESSION_ID_PATTERN,
}


def _scope(value: str) -> str:
    kind, _, name = value.partition(":")
    if value == "all" or (kind in _SCOPES and re.fullmatch(_SCOPES[kind], name)):
        return value
    raise ValueError("a scope is `all`, `env:…`, `tool:…`, `profile:…`, `agent:…` or `session:…` with a valid name")


StopScope = Annotated[str, AfterValidator(_scope)]


def scopes_of(*, env: str, tool: str, profile: str | None, agent: str, session: str | None) -> tuple[str, ...]:
    """Every stop scope that an action falls under."""
    scopes = ["all", f"env:{env}", f"tool:{tool}", f"agent:{agent}"]
    if profile:
        scopes.append(f"profile:{profile}")
    if session:
        scopes.append(f"session:{session}")
    return tuple(scopes)


class Stop(Frozen):
    """A kill-switch order in force until it is lifted."""

    stop_id: str
    scope: StopScope
    reason: str
    set_by: str
    set_at: Time
    lifted_by: str | None = None
    lifted_at: Time | None = None
    revision: int = 1


class StopSet(Event):
    """A stop is in force: no execution in its scope starts any more."""

    spec: ClassVar[Spec] = Spec("CONTROL", "control.stop_set", ("executor",))
    stop: Stop

    def about(self) -> str:
        return self.stop.stop_id


class StopLifted(Event):
    """A stop is in force no more."""

    spec: ClassVar[Spec] = Spec("CONTROL", "control.stop_lifted", ("executor",))
    stop: Stop

    def about(self) -> str:
        return self.stop.stop_id


class DeclaredChange(Frozen):
    """One declared thing before and after; a part that is absent did not exist or exists no more."""

    kind: Literal["tool", "profile", "policy", "agent", "approval_rule", "webhook", "alert_rule", "role"]
    name: str
    action: Literal["create", "update", "unchanged", "remove"]
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


class DeclarationsChanged(Event):
    """`countersign apply` changed what is declared; one event from each service that owns a part of the change."""

    change_id: str
    by: str
    at: Time
    changes: tuple[DeclaredChange, ...]

    def about(self) -> str:
        return self.change_id


class CatalogueChanged(DeclarationsChanged):
    """Tools changed."""

    spec: ClassVar[Spec] = Spec("CONTROL", "control.catalogue_changed", ("executor",))


class PoliciesChanged(DeclarationsChanged):
    """Profiles or policies changed; ``policy_version`` is the digest of the set now in force."""

    spec: ClassVar[Spec] = Spec("CONTROL", "control.policies_changed", ("policy",))
    policy_version: str


class ApprovalRulesChanged(DeclarationsChanged):
    """Approval rules or webhooks changed."""

    spec: ClassVar[Spec] = Spec("CONTROL", "control.approval_rules_changed", ("approvals",))


class ChannelRefused(Event):
    """A channel turned somebody away before any approval was concerned, e.g. for a forged signature."""

    spec: ClassVar[Spec] = Spec("CONTROL", "control.channel_refused", ("slack",))
    refusal: str = Field(description="makes the event's id unique")
    channel: Literal["slack"]
    code: str = Field(description="e.g. `signature`, `stale`, `workspace`, `not_enrolled`, `code`")
    reason: str
    identity: str | None = Field(default=None, max_length=256)
    count: int = Field(default=1, ge=1, description="how many alike this stands for")
    at: Time

    def about(self) -> str:
        return self.refusal


class Checkpointed(Event):
    """The ledger's head was signed. The checkpoint is also written outside the database."""

    spec: ClassVar[Spec] = Spec("CONTROL", "audit.checkpointed", ("audit",))
    seq: int
    checkpoint: dict[str, Any] = Field(description="see countersign_ledger.checkpoint")

    def about(self) -> str:
        return f"checkpoint-{self.seq}"


class DeadLettered(Event):
    """A message exhausted its tries; here it is, with the reason."""

    spec: ClassVar[Spec] = Spec("DEADLETTER", "deadletter.{token}", SERVICES)
    stream: str
    consumer: str
    stream_seq: int
    subject: str
    headers: dict[str, str]
    body: str = Field(description="base64 of the body as received; empty for what agents queue: it is not sealed yet")
    tries: int
    reason: str
    at: Time
    stored_at: Time | None = Field(default=None, description="when its stream stored it")
    truncated: bool = Field(default=False, description="headers or body are not kept whole: not redrivable")

    def about(self) -> str:
        # it is signed on a line of its own; what a stranger wrote into the header counts only where it can stand there
        subject = self.headers.get("ce-subject", "")
        return subject if subject and subject.isprintable() else self.subject

    def token(self) -> str:
        return f"{self.stream}.{self.consumer}"

    def event_id(self) -> str:
        return f"{self.stream}.{self.consumer}.{self.stream_seq}.{int(self.at.timestamp() * 1e6)}"


class DeadLetterOrder(Event):
    """Somebody had a dead letter handled again, or dropped it."""

    letter: str = Field(description="the event id of the dead letter")
    seq: int = Field(description="its sequence in stream DEADLETTER")
    stream: str
    consumer: str
    stream_seq: int
    subject: str
    by: str
    reason: str = Field(min_length=1, max_length=2000)
    at: Time

    def about(self) -> str:
        return self.letter

    def event_id(self) -> str:
        # what was interrupted is ordered again: that is another fact
        return f"{self.letter}.{self.spec.name}.{int(self.at.timestamp() * 1e6)}"


class DeadLetterRedriven(DeadLetterOrder):
    """Its own service was asked to handle the message again. Handled or failed, this dead letter goes.

    ``failed``: it is a dead letter anew, with one more try. ``postponed``, ``unanswered``: it stays as it is.
    """

    spec: ClassVar[Spec] = Spec("CONTROL", "control.dead_letter_redriven", ("gateway",))
    outcome: Literal["handled", "failed", "postponed", "unanswered"]
    detail: str | None = Field(default=None, max_length=2000, description="why it was not handled")


class DeadLetterDropped(DeadLetterOrder):
    """The dead letter goes unhandled."""

    spec: ClassVar[Spec] = Spec("CONTROL", "control.dead_letter_dropped", ("gateway",))
