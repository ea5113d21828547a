"""Whether a granted action may be executed at all, before anything is claimed. Pure.

The executor takes no one's word: it verifies the warrant against the digest of what it would execute, and
looks at what changed since the decision. What it refuses never ran.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from countersign_contracts.actions import (
    Action,
    ActionExecuted,
    ActionGranted,
    ActionRefused,
    Decision,
    Execution,
    Reason,
)
from countersign_contracts.catalogue import Tool, ToolRecord
from countersign_contracts.control import scopes_of
from countersign_contracts.fleet import AgentRecord
from countersign_contracts.warrant import InvalidWarrant, Warrant, verify
from countersign_ledger.trust import TrustBundle


class RefusedAction(Exception):
    """The executor will not start this action; the reasons go into ``ActionRefused``."""

    def __init__(self, *reasons: Reason) -> None:
        super().__init__("; ".join(reason.message for reason in reasons))
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class Admitted:
    """A granted action that nothing speaks against so far."""

    action: Action
    record: ToolRecord
    scopes: tuple[str, ...]
    warrant: Warrant
    decision: Decision

    @property
    def tool(self) -> Tool:
        """The catalogue entry, as declared."""
        return self.record.tool


def refuse(code: str, message: str, policy: str | None = None) -> RefusedAction:
    """A refusal with one reason."""
    return RefusedAction(Reason(code=code, message=message, policy=policy))


def scopes_of_grant(grant: ActionGranted) -> tuple[str, ...]:
    """Every stop scope that the granted action falls under.

    The profile is the one that the decision was made by.
    """
    action = grant.action
    return scopes_of(
        env=action.env,
        tool=action.tool,
        profile=grant.decision.profile,
        agent=action.agent_id,
        session=action.session_id,
    )


def admit(
    grant: ActionGranted,
    *,
    tool: ToolRecord | None,
    agent: AgentRecord | None,
    trust: TrustBundle,
    at: datetime,
) -> Admitted:
    """Raises :class:`RefusedAction` with what speaks against executing ``grant`` at time ``at``."""
    action = grant.action
    if grant.decision.outcome != "allow":
        raise refuse("warrant", "the grant's decision does not allow the action")
    try:
        warrant = verify(grant.warrant, action, at=at, trust=trust)
    except InvalidWarrant as error:
        raise refuse("warrant", error.detail) from None
    if tool is None or tool.version != action.tool_version:
        raise tool_changed(action, tool)
    _require_active(action.agent_id, agent)
    return Admitted(action, tool, scopes_of_grant(grant), warrant, grant.decision)


def require_unexpired(warrant: Warrant, at: datetime) -> None:
    """Raises :class:`RefusedAction` if the warrant expired while the action waited for its turn."""
    if at.timestamp() >= warrant.exp:
        raise refuse("warrant", "the warrant expired while the action waited for its turn")


def tool_changed(action: Action, tool: ToolRecord | None) -> RefusedAction:
    """The refusal of an action whose tool is not the one that was decided on."""
    now_at = f"version {tool.version} is in the catalogue now" if tool else "the catalogue has no such tool"
    return refuse("tool_changed", f"`{action.tool}` was granted at version {action.tool_version}; {now_at}")


def refusal_event(action: Action, decision: Decision, refusal: RefusedAction, at: datetime) -> ActionRefused:
    """The event that says so."""
    return ActionRefused(action=action.ref(), reasons=refusal.reasons, refused_at=at, risk=decision.risk)


def executed_event(action: Action, decision: Decision, execution: Execution) -> ActionExecuted:
    """The event that tells how the execution ended, with what its requester is to know of the decision."""
    approved = next((reason for reason in decision.reasons if reason.code == "approved"), None)
    return ActionExecuted(action=action.ref(), execution=execution, risk=decision.risk, approved=approved)


def _require_active(agent_id: str, agent: AgentRecord | None) -> None:
    if agent is None:
        raise refuse("unknown_agent", f"no agent `{agent_id}` is registered")
    if agent.status == "revoked":
        raise refuse("agent_revoked", f"agent `{agent_id}` was revoked")
    if agent.status == "paused":
        raise refuse("agent_paused", f"agent `{agent_id}` is paused")
