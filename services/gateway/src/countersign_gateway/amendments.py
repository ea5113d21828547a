"""What an approver changed: the action is ended and another takes its place, in one transaction.

Policy says so, signed, once and for good: it decides between the change and a cancellation, and checks that the new
arguments are those of the digest. Here the new action is made of what the first one's row says, and everything but its
arguments is the same. No agent asks for it, so the bounds at the door do not hold it up; it counts towards them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prometheus_client import Counter

from countersign_chassis import Bus, Failpoints
from countersign_contracts.actions import ActionDenied, ActionRequested, ActionResult, Reason, amended
from countersign_contracts.envelope import seal_event
from countersign_contracts.errors import CountersignError, Malformed
from countersign_contracts.model import now
from countersign_ledger import SigningKey

from .approval_rows import ApprovalRows, NotOfIt, Requested
from .lifecycle import Change, change_of
from .open_actions import OpenActions
from .settings import Settings
from .store import Accepted, Store


class Amendments:
    """Accepts what approvers made of actions."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        rows: ApprovalRows,
        bus: Bus,
        key: SigningKey,
        open_actions: OpenActions,
        failpoints: Failpoints,
        log: Any,
        accepted: Counter,
    ) -> None:
        self._settings = settings
        self._store = store
        self._rows = rows
        self._bus = bus
        self._key = key
        self._open = open_actions
        self._failpoints = failpoints
        self._log = log
        self._accepted = accepted

    async def take(self, event: ActionDenied) -> list[tuple[ActionResult, str]]:
        """End what was changed, and accept what takes its place.

        Returns what came of both, each with the channel of its row; nothing where that was done before.
        """
        at = now()
        drive_at = at + timedelta(seconds=self._settings.redrive_after_s)
        change = change_of(event)
        first = await self._rows.requested(event.action.request_id)
        try:
            new = self._new(event, first)
            await self._failpoints.hit("gateway.before_amendment_commit")
            done = await self._rows.supersede(change, new, at, drive_at)
        except (Malformed, NotOfIt) as error:
            self._log.error("a change was refused", request=event.action.request_id, reason=str(error))
            change = _refused(change)
            changed = await self._store.apply([change], at, drive_at)
            self._open.moved([change] if changed else [])
            return [(change.to_result(), row.channel) for row in changed.values()]
        if not done or first is None:
            return []
        self._open.moved([change])
        self._open.came(new.action.agent_id)
        self._accepted.labels(new.channel).inc()
        await self._failpoints.hit("gateway.after_amendment_before_publish")
        try:
            subject = ActionRequested.spec.subject.format(token=new.action.agent_id)
            await self._bus.publish_sealed([(subject, ActionRequested.spec.stream, new.envelope)])
        except CountersignError as error:
            self._log.warning("a changed action is not published yet; the sweeper repeats it", error=error.detail)
        result = ActionResult.of(new.action.ref(), "accepted", at)
        return [(change.to_result(), first.channel), (result, new.channel)]

    def _new(self, event: ActionDenied, first: Requested | None) -> Accepted:
        """The row to be. Raises :class:`Malformed` if it is not what was approved."""
        if first is None or event.amendment is None:
            raise Malformed("no such action was accepted here")
        requested = first.event
        action = amended(requested.action, event.amendment, now())
        again = requested.model_copy(update={"action": action})
        return Accepted(
            action,
            seal_event(again, time=action.requested_at, key=self._key, traceparent=first.traceparent),
            "http" if first.channel == "http" else "nats",  # nobody's call waits for it
            None,
            b"",  # nobody sent it: whatever is sent with its request id is something else
            b"",
        )


def _refused(change: Change) -> Change:
    reason = Reason(code="amended", message="the change is not what was approved: it was refused, and nothing runs")
    return Change(
        change.ref,
        change.state,
        change.decision,
        change.risk,
        (reason, *change.reasons),
        change.approval_id,
        event_id=change.event_id,
    )
