"""What people change of an agent that there is: its description, and that it is listed at all. Pure."""

from __future__ import annotations

from datetime import datetime

from countersign_contracts.agent_commands import AgentDeleted, DeleteAgent, UpdateAgent
from countersign_contracts.commands import SetAgentStatus
from countersign_contracts.errors import CountersignError

from .lifecycle import Agent, Change, faults, invalid, not_found, redeclare, revoked, set_status


def update(agent: Agent, command: UpdateAgent, at: datetime, event: str) -> Change | None:
    """Describe the agent anew; None if it is described so already, whatever revision the caller saw.

    Raises `not_found` for a deleted agent, `invalid` naming each wrong field, `stale` if the agent is at another
    revision than the caller saw, `conflict` for a revoked one.
    """
    require_present(agent)
    if wrong := faults(command.name, command.owner, command.environments):
        raise invalid(wrong)
    before = agent.record
    after = before.model_copy(update=command.described())
    if after == before:
        return None
    if command.revision is not None and command.revision != before.revision:
        raise CountersignError(
            f"agent `{before.agent_id}` is at revision {before.revision}, not {command.revision}: it changed meanwhile;"
            " look at it again",
            code="stale",
        )
    if before.status == "revoked":
        raise CountersignError(
            f"{revoked(agent)}, which is for good: it cannot be changed any more; register another agent in its place",
            code="conflict",
        )
    return redeclare(before, after.model_copy(update={"revision": before.revision + 1}), command.by, at, event)


def delete(agent: Agent, command: DeleteAgent, at: datetime, event: str) -> Change | None:
    """Revoke the agent, if it is not, and list it no more; None if it is deleted already."""
    if agent.deleted_at is not None:
        return None
    order = SetAgentStatus(agent_id=command.agent_id, status="revoked", reason=command.reason, by=command.by)
    change = set_status(agent, order, at, event) or Change(agent.record, ())
    told = AgentDeleted(agent_id=command.agent_id, event=event, by=command.by, at=at, reason=command.reason)
    return Change(change.record, (*change.events, told), voided=change.voided)


def require_present(agent: Agent) -> None:
    """Raises `not_found` for a deleted agent, saying by whom and when."""
    if agent.deleted_at is not None:
        raise CountersignError(
            f"agent `{agent.record.agent_id}` was deleted by {agent.deleted_by} at {agent.deleted_at:%Y-%m-%d %H:%M}"
            " UTC; what it did stays on record: `countersign audit timeline --agent"
            f" {agent.record.agent_id}`",
            code="not_found",
        )


def require_known(agent: Agent | None, agent_id: str) -> Agent:
    """The agent; raises `not_found` where there never was one of that id."""
    if agent is None:
        raise not_found(agent_id)
    return agent
