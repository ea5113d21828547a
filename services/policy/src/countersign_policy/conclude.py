"""The end of a decision, purely: guardrails as counted, facts as looked up, approval as given; allow, deny or hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from countersign_contracts.actions import Action, ActionDenied, ActionGranted, ActionHeld, Decision, Reason
from countersign_contracts.approvals import ApprovalResolved

from .examine import Examined
from .guardrails import judge


@dataclass(frozen=True, slots=True)
class Approved:
    """People said yes to exactly this action."""

    approval_id: str
    by: tuple[str, ...]


def approval_id_of(action: Action) -> str:
    """The id of the one approval that an action can have."""
    return f"apr_{action.request_id.replace('-', '')}"


def conclude(
    examined: Examined,
    *,
    used: Mapping[str, Decimal],
    facts: tuple[Reason, ...],
    approved: Approved | None,
    policy_version: str,
    at: datetime,
) -> Decision:
    """The decision. ``used`` is by counter key, this action aside; ``facts`` are the denials that were found."""
    uses, exceeded = judge(list(examined.counts), used) if not examined.denied else ((), ())
    denied = examined.denied or (*examined.blocked, *facts, *exceeded)
    approval_id = approved.approval_id if approved is not None else None
    outcome: Literal["allow", "deny", "hold"]
    if denied:
        outcome, reasons = "deny", denied
    elif examined.approval is not None and approved is None:
        outcome, approval_id = "hold", approval_id_of(examined.action)
        reasons = (Reason(code="approval_required", message=examined.approval),)
    else:
        outcome, reasons = "allow", _why_allowed(examined, approved)
    return Decision(
        outcome=outcome,
        reasons=reasons,
        policies=examined.policies,
        policy_version=policy_version,
        profile=examined.agent.profile if examined.agent is not None else None,
        effect=examined.effect,
        risk=examined.risk,
        guardrails=uses,
        approval_id=approval_id,
        decided_at=at,
    )


def denied_by(held: ActionHeld, reasons: tuple[Reason, ...], at: datetime) -> Decision:
    """The denial of a held action by what became of its approval."""
    return held.decision.model_copy(update={"outcome": "deny", "reasons": reasons, "decided_at": at})


def refusal(held: ActionHeld, resolved: ApprovalResolved) -> tuple[Reason, ...]:
    """Why the held action is denied without deciding again; empty where it was approved for exactly this action."""
    id = held.approval_id
    match resolved.state:
        case "rejected":
            votes = [v for v in resolved.votes if v.vote == "reject"]
            said = "; ".join(f"{v.voter}: {v.comment}" if v.comment else v.voter for v in votes)
            message = f"rejected by {said}" if said else "rejected"
            return (Reason(code="approval_rejected", message=message, policy=id),)
        case "expired":
            message = f"nobody approved it within {held.deadline_s} s"
            return (Reason(code="approval_expired", message=message, policy=id),)
        case "cancelled":
            return (Reason(code="cancelled", message="the approval was cancelled", policy=id),)
    approvals = [v.digest for v in resolved.votes if v.vote == "approve"]
    digests = {resolved.action.digest, *approvals}
    if not approvals or resolved.approval_id != id or digests != {held.action.digest}:
        message = "nobody approved exactly this action: no vote, or another approval id or digest"
        return (Reason(code="approval_digest", message=message, policy=id),)
    return ()


def approved_by(resolved: ApprovalResolved) -> Approved:
    """Who approved."""
    return Approved(resolved.approval_id, tuple(v.voter for v in resolved.votes if v.vote == "approve"))


def event_of(examined: Examined, decision: Decision, warrant: str | None) -> ActionGranted | ActionHeld | ActionDenied:
    """The event that tells of the decision; ``warrant`` is there exactly for a grant."""
    action, agent = examined.action, examined.agent
    if decision.outcome == "allow" and warrant is not None:
        return ActionGranted(action=action, decision=decision, warrant=warrant)
    if decision.outcome == "hold" and agent is not None and decision.approval_id is not None:
        return ActionHeld(
            action=action,
            decision=decision,
            approval_id=decision.approval_id,
            owner_team=agent.owner.team,
            owner_oncall=agent.owner.oncall,
            deadline_s=examined.deadline_s,
        )
    return ActionDenied(action=action, decision=decision)


def _why_allowed(examined: Examined, approved: Approved | None) -> tuple[Reason, ...]:
    permitted = Reason(code="permitted", message=f"permitted by {', '.join(examined.policies)}")
    if approved is None:
        return (permitted,)
    message = f"approved by {', '.join(approved.by) or 'a person'}"
    return permitted, Reason(code="approved", message=message, policy=approved.approval_id)
