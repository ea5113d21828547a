"""What may be done to an agent, and what follows from it.

Pure: state, time and ids are arguments; nothing is read, written or sent. Every decision returns a
:class:`Change`, or raises the :class:`CountersignError` that the caller is answered with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from countersign_contracts.commands import AgentView, IssueCredentials, RegisterAgent, SetAgentStatus
from countersign_contracts.errors import CountersignError
from countersign_contracts.event import SERVICES
from countersign_contracts.fleet import (
    AgentChanged,
    AgentDescription,
    AgentPhase,
    AgentRecord,
    AgentRegistered,
    AgentStatusChanged,
    Credential,
    CredentialsIssued,
    CredentialsRevoked,
    FleetEvent,
    Owner,
)
from countersign_contracts.model import rfc3339

#: In account AGENTS the services' inboxes lie beside the agents' (``_INBOX.<name>``): an agent of such a name would
#: hear what the gateway receives. And the last ones are paths of the API beside those of agents.
RESERVED_IDS = frozenset({*SERVICES, "bootstrap", "observers", "orders", "packages", "tokens"})
RESERVED_HINT = f"any other id; {', '.join(sorted(RESERVED_IDS))} are the control plane's own"


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as its rows have it; ``record`` holds the credentials that are neither void nor expired."""

    record: AgentRecord
    created_at: datetime
    created_by: str
    status_at: datetime
    status_by: str
    status_reason: str | None = None
    last_seen: datetime | None = None
    heartbeat: dict[str, Any] | None = None
    phase: AgentPhase = "registered"
    phase_since: datetime | None = None
    phase_cause: str | None = None
    deleted_at: datetime | None = None
    deleted_by: str | None = None

    def view(self, last_seen: datetime | None = None, heartbeat: dict[str, Any] | None = None) -> AgentView:
        """What people are shown; a later ``last_seen`` than the row's wins, with its ``heartbeat``."""
        if last_seen is None or (self.last_seen is not None and self.last_seen > last_seen):
            last_seen, heartbeat = self.last_seen, self.heartbeat
        return AgentView(
            agent=self.record,
            created_at=self.created_at,
            last_seen=last_seen,
            heartbeat=heartbeat,
            phase=self.phase,
            phase_since=self.phase_since,
            phase_cause=self.phase_cause,
        )


@dataclass(frozen=True, slots=True)
class Change:
    """What a decision changes: the record as it will be, what is told, and credentials: new, void, lasting longer."""

    record: AgentRecord
    events: tuple[FleetEvent, ...]
    issued: tuple[Credential, ...] = ()
    voided: tuple[Credential, ...] = ()
    renewed: tuple[Credential, ...] = ()

    @property
    def voids_nats_users(self) -> bool:
        """Whether nats-server has to be told."""
        return any(credential.kind == "nats" for credential in self.voided)


def faults(name: str, owner: Owner, environments: Sequence[str]) -> list[tuple[tuple[str | int, ...], str, str]]:
    """What is wrong with an agent's description beyond the form of its fields: where, what, what is allowed."""
    texts = {("name",): name, ("owner", "team"): owner.team, ("owner", "oncall"): owner.oncall}
    found: list[tuple[tuple[str | int, ...], str, str]] = [
        (loc, f"`{loc[-1]}` is blank or holds characters that cannot be printed", "printable text")
        for loc, text in texts.items()
        if text is not None and (not text.strip() or not text.isprintable())
    ]
    found += [
        (("environments", at), f"environment `{env}` is given twice", "each environment once")
        for at, env in enumerate(environments)
        if env in environments[:at]
    ]
    return found


def invalid(wrong: Sequence[tuple[tuple[str | int, ...], str, str]]) -> CountersignError:
    """All that is wrong with a description, each with its field."""
    return CountersignError(
        "; ".join(f"{'.'.join(map(str, loc))}: {what} (allowed: {allowed})" for loc, what, allowed in wrong),
        code="invalid",
        errors=[{"field": ".".join(map(str, loc)), "message": m, "allowed": a} for loc, m, a in wrong],
    )


def register(command: RegisterAgent, at: datetime, event: str) -> Change:
    """A new agent, active, without credentials. Raises `invalid` naming each wrong field."""
    wrong = faults(command.name, command.owner, command.environments)
    if command.agent_id in RESERVED_IDS:
        wrong.insert(0, (("agent_id",), f"the id `{command.agent_id}` is reserved", RESERVED_HINT))
    if wrong:
        raise invalid(wrong)
    return registered(new_record(command.agent_id, command), command.by, at, event)


def new_record(agent_id: str, said: AgentDescription) -> AgentRecord:
    """An agent as people describe it: active, without credentials."""
    return AgentRecord(agent_id=agent_id, status="active", revision=1, **said.described())


def registered(record: AgentRecord, by: str, at: datetime, event: str) -> Change:
    """The change that makes ``record`` known."""
    return Change(record, (AgentRegistered(agent_id=record.agent_id, event=event, by=by, at=at, agent=record),))


def already_registered(agent: Agent) -> CountersignError:
    """Why an id cannot be registered again."""
    record = agent.record
    if agent.deleted_at is not None:
        return CountersignError(
            f"the id `{record.agent_id}` was that of an agent that {agent.deleted_by} deleted at"
            f" {_minute(agent.deleted_at)}, and is never given to another; take another id",
            code="conflict",
        )
    return CountersignError(
        f"agent `{record.agent_id}` is registered already: by {agent.created_by} at {_minute(agent.created_at)},"
        f" for team {record.owner.team}, now {record.status}; take another id, or change it with `countersign apply`",
        code="conflict",
    )


def not_found(agent_id: str) -> CountersignError:
    """No such agent."""
    return CountersignError(
        f"agent `{agent_id}` is not registered; `countersign agents list` shows those that are", code="not_found"
    )


def set_status(agent: Agent, command: SetAgentStatus, at: datetime, event: str) -> Change | None:
    """Pause, resume or revoke; None if the agent has that status already. Raises `conflict`: revoked is for good."""
    before = agent.record.status
    if before == command.status:
        return None
    if before == "revoked":
        raise CountersignError(
            f"{revoked(agent)}, which is for good: it cannot become {command.status};"
            " register another agent in its place",
            code="conflict",
        )
    voided = agent.record.credentials if command.status == "revoked" else ()
    record = agent.record.model_copy(
        update={
            "status": command.status,
            "revision": agent.record.revision + 1,
            "credentials": () if voided else agent.record.credentials,
        }
    )
    about: dict[str, Any] = {"agent_id": record.agent_id, "event": event, "by": command.by, "at": at}
    events: list[FleetEvent] = [
        AgentStatusChanged(**about, before=before, status=command.status, reason=command.reason)
    ]
    if voided:
        events.append(CredentialsRevoked(**about, credential_ids=tuple(c.credential_id for c in voided)))
    return Change(record, tuple(events), voided=voided)


def expiry(at: datetime, lifetime_s: int | None) -> datetime | None:
    """When credentials issued now end: in whole seconds, since a NATS JWT counts in those."""
    return None if lifetime_s is None else at.replace(microsecond=0) + timedelta(seconds=lifetime_s)


def issue(
    agent: Agent, command: IssueCredentials, issued: tuple[Credential, ...], at: datetime, event: str, max_live: int
) -> Change:
    """Give the agent ``issued``; with ``replace`` its older ones of those kinds are void.

    Raises `conflict` for a revoked agent, and where it would have more than ``max_live`` of a kind.
    """
    if agent.record.status == "revoked":
        raise CountersignError(f"{revoked(agent)}: it gets no credentials any more", code="conflict")
    kinds = {credential.kind for credential in issued}
    voided = tuple(c for c in agent.record.credentials if command.replace and c.kind in kinds)
    kept = tuple(c for c in agent.record.credentials if c not in voided)
    for kind in sorted(kinds):
        if sum(c.kind == kind for c in kept) >= max_live:
            raise CountersignError(
                f"agent `{command.agent_id}` has {max_live} live {kind} credentials, which is the most;"
                " issue with `replace`, which voids them",
                code="conflict",
            )
    record = agent.record.model_copy(
        update={"revision": agent.record.revision + 1, "credentials": (*kept, *issued)},
    )
    about: dict[str, Any] = {"agent_id": record.agent_id, "event": event, "by": command.by, "at": at}
    events: list[FleetEvent] = [CredentialsIssued(**about, credentials=issued)]
    if voided:
        events.insert(0, CredentialsRevoked(**about, credential_ids=tuple(c.credential_id for c in voided)))
    return Change(record, tuple(events), issued, voided)


def renew(
    agent: Agent,
    renewed: tuple[Credential, ...],
    issued: tuple[Credential, ...],
    voided: tuple[Credential, ...],
    at: datetime,
    event: str,
) -> Change:
    """The agent's ``renewed`` credentials last longer, ``issued`` ones take the place of ``voided`` ones.

    Raises `conflict` for a revoked agent.
    """
    if agent.record.status == "revoked":
        raise CountersignError(f"{revoked(agent)}: it gets no credentials any more", code="conflict")
    gone = {credential.credential_id for credential in (*renewed, *voided)}
    kept = tuple(c for c in agent.record.credentials if c.credential_id not in gone)
    record = agent.record.model_copy(
        update={"revision": agent.record.revision + 1, "credentials": (*kept, *renewed, *issued)}
    )
    about: dict[str, Any] = {"agent_id": record.agent_id, "event": event, "by": f"agent:{record.agent_id}", "at": at}
    events: list[FleetEvent] = [CredentialsIssued(**about, credentials=(*renewed, *issued))]
    if voided:
        events.insert(0, CredentialsRevoked(**about, credential_ids=tuple(c.credential_id for c in voided)))
    return Change(record, tuple(events), issued, voided, renewed)


def redeclare(before: AgentRecord, after: AgentRecord, by: str, at: datetime, event: str) -> Change:
    """The change from ``before`` to the same agent described anew."""
    told = AgentChanged(agent_id=before.agent_id, event=event, by=by, at=at, before=before, agent=after)
    return Change(after, (told,))


def revoked_before(issued_at: datetime, voided_at: datetime) -> int:
    """The second up to which a void NATS user's JWTs are refused; its own, even if the clock went back since."""
    return int(max(issued_at, voided_at).timestamp())


def revoked(agent: Agent) -> str:
    """That the agent was revoked: by whom, when and why."""
    why = f" ({agent.status_reason})" if agent.status_reason else ""
    return f"agent `{agent.record.agent_id}` was revoked by {agent.status_by} at {_minute(agent.status_at)}{why}"


def _minute(at: datetime) -> str:
    return f"{rfc3339(at)[:16].replace('T', ' ')} UTC"
