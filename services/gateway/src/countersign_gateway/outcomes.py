"""What the other services say became of actions: told to who waits here, written to the rows, told to agents.

Of several gateways one takes each event from the durable consumer. The callers of the others hear it by themselves
(``overhearing``), so that what is announced depends on the row alone: to agents that queued, or whose call stopped
waiting.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from prometheus_client import Counter, Histogram

from countersign_chassis import Delivery, Failpoints
from countersign_chassis.metrics import example
from countersign_contracts.actions import FINAL_STATES, ActionDenied, ActionReconciled, ActionResult
from countersign_contracts.event import Event
from countersign_contracts.model import now

from .amendments import Amendments
from .lifecycle import Change, change_of
from .open_actions import OpenActions
from .settings import Settings
from .store import Changed, Store
from .waiters import Waiters

Announce = Callable[[list[ActionResult]], Awaitable[None]]


class Outcomes:
    """Handlers of the gateway's two consumers of stream ACTIONS."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        waiters: Waiters,
        open_actions: OpenActions,
        amendments: Amendments,
        announce: Announce,
        failpoints: Failpoints,
        ended: Counter,
        seconds: Histogram,
    ) -> None:
        self._settings = settings
        self._store = store
        self._waiters = waiters
        self._open = open_actions
        self._amendments = amendments
        self._announce = announce
        self._failpoints = failpoints
        self._ended = ended
        self._seconds = seconds

    async def finals(self, batch: list[Delivery]) -> None:
        """Outcomes: callers are answered first, since the event is the fact; the row follows in one statement."""
        changed = [delivery.event for delivery in batch if _changed(delivery.event)]
        if ended := [delivery for delivery in batch if not _changed(delivery.event)] if changed else batch:
            await self._finals(ended)
        for event in changed:
            await self._superseded(event)

    async def _superseded(self, event: ActionDenied) -> None:
        """Callers are told once the action that takes its place is accepted: they may ask for it at once."""
        told = await self._amendments.take(event)
        for result, _ in told:
            self._waiters.tell(result)
            if result.state in FINAL_STATES:
                self._waiters.note_ended([result.request_id])
                self._ended.labels(result.state).inc()
        await self._announce([result for result, channel in told if channel == "nats"])

    async def _finals(self, batch: list[Delivery]) -> None:
        changes = [change_of(delivery.event) for delivery in batch]
        results = [change.to_result() for change in changes]
        self._waiters.remember(results)
        try:
            for result in results:
                self._waiters.tell(result)
            await self._failpoints.hit("gateway.before_outcome_commit")
            changed = await self._write(changes)
        finally:
            self._waiters.forget(results)
        self._waiters.note_ended(changed)
        at = now()
        for result in results:
            if (row := changed.get(result.request_id)) is not None:
                self._ended.labels(result.state).inc()
                took_s = max(0.0, (at - row.accepted_at).total_seconds())
                self._seconds.labels("yes" if row.held else "no").observe(took_s, example(result.request_id))
        # a caller is told by the replica it called; a replayed event changed nothing and is told to nobody
        await self._announce(
            [
                result
                for delivery, result in zip(batch, results, strict=True)
                if _announced(changed.get(result.request_id), delivery.event)
            ]
        )

    async def progress(self, batch: list[Delivery]) -> None:
        """Held, granted and started: only the rows that did not end meanwhile change."""
        changes = [change_of(delivery.event) for delivery in batch]
        changed = await self._write(changes)
        await self._announce(
            [
                change.to_result()
                for change in changes
                if _said_on_the_way(change)
                and (row := changed.get(change.ref.request_id)) is not None
                and row.channel in ("nats", "call")
            ]
        )

    async def _write(self, changes: list[Change]) -> dict[str, Changed]:
        at = now()
        changed = await self._store.apply(changes, at, at + timedelta(seconds=self._settings.redrive_after_s))
        latest = {change.ref.request_id: change for change in changes}
        self._open.moved([latest[request_id] for request_id in changed])
        return changed


def _changed(event: Event) -> bool:
    """Whether an approver changed it, so that another action takes its place."""
    return isinstance(event, ActionDenied) and event.amendment is not None


def _said_on_the_way(change: Change) -> bool:
    """Agents hear before the end that people are asked, and what these decided."""
    return change.state == "held" or (change.state == "granted" and change.approval_id is not None)


def _announced(row: Changed | None, event: Event) -> bool:
    """Whether a change is told on the results subject. Nobody waits any more for what was reconciled."""
    if row is None:
        return False
    return row.channel == "nats" or (row.channel == "call" and isinstance(event, ActionReconciled))
