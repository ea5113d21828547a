"""What each event makes of an action's state: pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from countersign_contracts.actions import (
    ActionCancelled,
    ActionDenied,
    ActionEvent,
    ActionExecuted,
    ActionGranted,
    ActionHeld,
    ActionReconciled,
    ActionRef,
    ActionRefused,
    ActionResult,
    ActionStarted,
    Reason,
    State,
)
from countersign_contracts.model import now


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of an action's row."""

    ref: ActionRef
    state: State
    decision: str | None = None
    risk: str | None = None
    reasons: tuple[Reason, ...] = ()
    approval_id: str | None = None
    result: Any = None
    status_code: int | None = None
    truncated: bool = False
    event_id: str | None = None
    """Of the event that ended it, where sending the action again has that event repeated."""
    superseded_by: str | None = None

    @property
    def reason(self) -> str | None:
        """One line for people, without what PostgreSQL does not keep in text: an agent may name its arguments so."""
        return "; ".join(reason.message for reason in self.reasons).replace("\0", "\ufffd") or None

    def to_result(self) -> ActionResult:
        """What the agent is told."""
        return ActionResult.of(
            self.ref,
            self.state,
            now(),
            decision=self.decision,
            risk=self.risk,
            reason=self.reason,
            reasons=self.reasons,
            approval_id=self.approval_id,
            result=self.result,
            status_code=self.status_code,
            truncated=self.truncated,
            superseded_by=self.superseded_by,
        )

    def reasons_json(self) -> str:
        """For the row."""
        return orjson.dumps([reason.model_dump(exclude_none=True) for reason in self.reasons]).decode()

    def result_json(self) -> str | None:
        """For the row."""
        return None if self.result is None else orjson.dumps(self.result).decode()


def change_of(event: ActionEvent) -> Change:
    """The row's change for an event of stream ACTIONS."""
    ref, event_id = event.ref(), event.event_id()
    match event:
        case ActionHeld(decision=d):
            return Change(ref, "held", "hold", d.risk, d.reasons, event.approval_id)
        case ActionGranted(decision=d):
            approved = tuple(reason for reason in d.reasons if reason.code == "approved")
            return Change(ref, "granted", "allow", d.risk, approved, d.approval_id)
        case ActionStarted():
            return Change(ref, "executing", "allow")
        case ActionDenied(decision=d):
            return Change(
                ref,
                "expired" if event.expired else "denied",
                "deny",
                d.risk,
                d.reasons,
                d.approval_id,
                event_id=event_id,
                superseded_by=event.amendment.request_id if event.amendment else None,
            )
        case ActionRefused():
            return Change(ref, "denied", "allow", event.risk, event.reasons, event_id=event_id)
        case ActionExecuted(execution=e, approved=approval):
            failure = Reason(code=e.failure.code, message=e.failure.message) if e.failure else None
            return Change(
                ref,
                e.outcome,
                "allow",
                event.risk,
                tuple(reason for reason in (failure, approval) if reason is not None),
                approval.policy if approval is not None else None,
                e.result,
                e.status_code,
                e.truncated,
                event_id,
            )
        case ActionReconciled():
            reason = Reason(code="reconciled", message=f"{event.by} found that it {event.outcome}: {event.note}")
            return Change(ref, event.outcome, "allow", None, (reason,), event_id=event_id)
        case ActionCancelled():
            message = f"cancelled by {event.by}" + (f": {event.reason}" if event.reason else "")
            return Change(ref, "cancelled", None, None, (Reason(code="cancelled", message=message),))
    raise TypeError(f"{type(event).__name__} changes no action")
