"""What is said in the thread of a message: one line for each event that people want to hear of. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from countersign_contracts.actions import (
    ActionCancelled,
    ActionDenied,
    ActionExecuted,
    ActionReconciled,
    ActionRefused,
    Reason,
)
from countersign_contracts.approval_commands import ApprovalView
from countersign_contracts.approvals import (
    ApprovalAdvanced,
    ApprovalEscalated,
    ApprovalOverdue,
    ApprovalReminded,
    ApprovalResolved,
    ApprovalVoteVoided,
    StandingGranted,
    StandingRevoked,
)
from countersign_contracts.event import Event

from .rendering import Outcome
from .words import code, when

#: Denials that only repeat what the approval's own end has said.
_SAID_BEFORE = frozenset({"approval_rejected", "approval_expired", "amended"})


def note_of(event: Event, view: ApprovalView, mentions: Sequence[str]) -> str | None:
    """The line about an event; ``mentions`` are Slack's for those who may vote now. None: the message says it."""
    waits = ", ".join(code(who, 200) for who in view.waits_for) or "an approver"
    calls = f" {' '.join(mentions)}" if mentions else ""
    match event:
        case ApprovalAdvanced():
            return f":arrow_forward: Stage `{event.stage}` is done. It waits for {waits}.{calls}"
        case ApprovalReminded():
            return f":bell: It still waits for {waits}, until {when(view.deadline)}.{calls}"
        case ApprovalEscalated():
            asked = ", ".join(code(who, 200) for who in event.to)
            return f":rotating_light: Escalated to {asked}. It waits for {waits}, until {when(view.deadline)}.{calls}"
        case ApprovalOverdue():
            return f":alarm_clock: The deadline has passed, and it stays open until somebody decides: {waits}.{calls}"
        case ApprovalVoteVoided():
            return f":wastebasket: The vote of {code(event.voter, 140)} counts no more: {code(event.reason, 400)}"
        case StandingGranted():
            standing = event.standing
            return (
                f":repeat: Allowed ahead: `{standing.tool}` on {code(standing.resource, 300)} by `{standing.agent_id}`"
                f" in `{standing.env}`, until {when(standing.until)}, at most {standing.max_uses} times"
                f" (`{standing.standing_id}`)"
            )
        case StandingRevoked():
            name, why = event.standing.standing_id, code(event.reason, 400)
            return f":wastebasket: Nothing is allowed ahead by `{name}` any more: {why}"
        case ApprovalResolved():
            return _resolution(event)
        case _:
            return None


def _resolution(event: ApprovalResolved) -> str | None:
    votes = [vote for vote in event.votes if vote.vote == ("reject" if event.state == "rejected" else "approve")]
    by = ", ".join(
        code(vote.voter, 140) + (f": {code(vote.comment, 600)}" if vote.comment else "") for vote in votes[:10]
    )
    match event.state:
        case "approved":
            return f":white_check_mark: Approved by {by or 'rule'}. Policy decides once more before it runs."
        case "rejected":
            return f":no_entry: Rejected by {by or 'rule'}"
        case "expired":
            return ":alarm_clock: Nobody decided in time: it is denied"
        case "amended":
            return f":pencil2: Approved with changes by {by}. What runs is another action, decided anew."
        case _:
            return None  # the action's own cancellation says by whom and why


def outcome_of(event: Event) -> Outcome | None:
    """How the action ended; None where the approval's own end has said it."""
    match event:
        case ActionExecuted():
            execution = event.execution
            status = f", status {execution.status_code}" if execution.status_code is not None else ""
            why = f": {code(execution.failure.message, 400)}" if execution.failure else ""
            match execution.outcome:
                case "succeeded":
                    return Outcome(f"Executed: *succeeded*{status}", True)
                case "failed":
                    return Outcome(f"Executed: *failed*{status}{why}", False)
                case _:
                    return Outcome(
                        f"*Unknown* whether it took effect{status}{why}. A person must find out:"
                        f" `countersign actions reconcile {event.action.request_id}`",
                        False,
                    )
        case ActionReconciled():
            return Outcome(f"Found out by {code(event.by, 140)}: it *{event.outcome}*", event.outcome == "succeeded")
        case ActionRefused():
            return Outcome(f"*Not executed*: {_reasons(event.reasons)}", False)
        case ActionDenied() if not any(reason.code in _SAID_BEFORE for reason in event.decision.reasons):
            return Outcome(f"*Denied after all*: {_reasons(event.decision.reasons)}", False)
        case ActionCancelled():
            why = f": {code(event.reason, 400)}" if event.reason else ""
            return Outcome(f"*Cancelled* by {code(event.by, 140)}{why}", False)
        case _:
            return None


def _reasons(reasons: Sequence[Reason]) -> str:
    return "; ".join(code(reason.message, 400) for reason in reasons[:5])
