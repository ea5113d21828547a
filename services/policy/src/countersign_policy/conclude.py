"""The end of a decision, purely: guardrails as counted, facts as looked up, approval as given; allow, deny or hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from countersign_contracts.actions import (
    Action,
    ActionDenied,
    ActionGranted,
    ActionHeld,
    Amendment,
    Decision,
    Reason,
    Risk,
    amended,
)
from countersign_contracts.approvals import ApprovalResolved
from countersign_contracts.errors import Malformed

from .examine import Examined
from .guardrails import judge
from .risk import riskier
from .telling import MAX_TEXT, told


@dataclass(frozen=True, slots=True)
class Approved:
    """People said yes to exactly this action, and to ``risk``, the one they were shown."""

    approval_id: str
    by: str
    risk: Risk | None


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
    denied = examined.denied or (*_outgrown(examined, approved), *examined.blocked, *facts, *exceeded)
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
            said = _said(resolved, "reject")
            message = f"rejected by {said}" if said else "rejected"
            return (Reason(code="approval_rejected", message=message, policy=id),)
        case "expired":
            who = _said(resolved, "approve")
            took_s = round((resolved.resolved_at - held.decision.decided_at).total_seconds())
            message = f"only {who} approved it" if who else "nobody approved it"
            return (Reason(code="approval_expired", message=f"{message} within {took_s} s", policy=id),)
        case "amended":
            return (_amended(held, resolved),)
        case "cancelled":
            return (Reason(code="cancelled", message="the approval was cancelled", policy=id),)
    approvals = [v.digest for v in resolved.votes if v.vote == "approve"]
    digests = {resolved.action.digest, *approvals}
    if not approvals or resolved.approval_id != id or digests != {held.action.digest}:
        message = "nobody approved exactly this action: no vote, or another approval id or digest"
        return (Reason(code="approval_digest", message=message, policy=id),)
    return ()


def amendment_of(held: ActionHeld, resolved: ApprovalResolved) -> Amendment | None:
    """What takes the place of a held action that was approved with changes; none where nothing does."""
    change = resolved.amendment
    if resolved.state != "amended" or change is None or resolved.approval_id != held.approval_id:
        return None
    try:
        amended(held.action, change, resolved.resolved_at)
    except Malformed:
        return None
    return change


def _amended(held: ActionHeld, resolved: ApprovalResolved) -> Reason:
    change = amendment_of(held, resolved)
    if change is None:
        message = "it was changed into what nobody approved: no change, or not the one of its digest; nothing runs"
        return Reason(code="approval_digest", message=message, policy=held.approval_id)
    message = f"changed by {_said(resolved, 'approve') or change.by}; action {change.request_id} takes its place"
    return Reason(code="amended", message=message, policy=held.approval_id)


def approved_by(held: ActionHeld, resolved: ApprovalResolved) -> Approved:
    """Who approved what was held, and what they said."""
    return Approved(resolved.approval_id, _said(resolved, "approve"), held.decision.risk)


def event_of(examined: Examined, decision: Decision, warrant: str | None) -> ActionGranted | ActionHeld | ActionDenied:
    """The event that tells of the decision; ``warrant`` is there exactly for a grant."""
    action, agent = examined.action, examined.agent
    tool = examined.tool.tool if examined.tool is not None else None
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
            tool_description=tool.description or None if tool is not None else None,
            resource=told(tool.resource, action.args) if tool is not None else None,
            preview=told(tool.preview, action.args) if tool is not None else None,
        )
    return ActionDenied(action=action, decision=decision)


def _outgrown(examined: Examined, approved: Approved | None) -> tuple[Reason, ...]:
    """Why an approval does not count any more: others might have been asked for what it is now, or more of them."""
    if approved is None or not riskier(examined.risk, approved.risk):
        return ()
    message = (
        f"it was approved at {approved.risk or 'no'} risk, and is {examined.risk} since profiles or tools were changed:"
        " ask again"
    )
    return (Reason(code="approval_outgrown", message=message, policy=approved.approval_id),)


def _why_allowed(examined: Examined, approved: Approved | None) -> tuple[Reason, ...]:
    permitted = Reason(code="permitted", message=f"permitted by {', '.join(examined.policies)}")
    if approved is None:
        return (permitted,)
    approval = Reason(code="approved", message=f"approved by {approved.by}", policy=approved.approval_id)
    return permitted, approval


def _said(resolved: ApprovalResolved, kind: Literal["approve", "reject"]) -> str:
    """Who voted so, with their comments."""
    votes = [vote for vote in resolved.votes if vote.vote == kind]
    said = "; ".join(f"{vote.voter}: {vote.comment}" if vote.comment else vote.voter for vote in votes)
    return said if len(said) <= MAX_TEXT else f"{said[:MAX_TEXT]}…"
