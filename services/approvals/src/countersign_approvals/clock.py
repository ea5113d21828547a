"""What happens to approvals by themselves: reminders, escalations, deadlines.

Each pending approval's row says when the next thing happens to it, so a restart loses nothing, and several replicas
share them: each takes other rows.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime

from countersign_chassis import Failpoints
from countersign_contracts.approvals import ApprovalEscalated, ApprovalOverdue, ApprovalReminded, open_stage
from countersign_contracts.event import Event
from countersign_contracts.model import now

from .measures import Measures
from .outbox import Outbox
from .refusals import Refusals
from .store import Approval, Store
from .telling import resolved

_AT_ONCE = 200
_GAUGES_S = 5.0


class Clock:
    """The loops."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        refusals: Refusals,
        measures: Measures,
        failpoints: Failpoints,
        poll_s: float,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._refusals = refusals
        self._measures = measures
        self._failpoints = failpoints
        self._poll_s = poll_s

    async def run(self) -> None:
        """Do what is due, for ever."""
        while True:
            if await self.tick() < _AT_ONCE:
                await asyncio.sleep(self._poll_s)

    async def tick(self) -> int:
        """Do what is due now; returns to how many approvals something happened."""
        at = now()
        async with self._store.transaction() as connection:
            due = await self._store.due(connection, at, _AT_ONCE)
            if not due:
                return 0
            events: list[tuple[Event, str | None]] = []
            expired: list[str] = []
            for before in due:
                after, happened = advance(before, at)
                events += [(event, before.traceparent) for event in happened]
                if after.state == "expired":
                    expired.append(after.approval_id)
                else:
                    await self._store.set_progress(connection, after)
            await self._store.resolve(connection, expired, "expired", at)
            told = await self._outbox.add(connection, events)
        await self._failpoints.hit("approvals.after_timer_before_publish")
        await self._outbox.send(told)
        self._measures.ended("expired", len(expired))
        for event, _ in events:
            if isinstance(event, ApprovalReminded | ApprovalEscalated | ApprovalOverdue):
                self._measures.happened(_WORDS[type(event)])
        return len(due)

    async def watch(self) -> None:
        """Keep the gauges true, and forget what is of no use any more, for ever."""
        while True:
            at = now()
            self._measures.waiting(await self._store.ages(at), at)
            await self._refusals.forget()
            await asyncio.sleep(_GAUGES_S)


_WORDS: dict[type[Event], str] = {
    ApprovalReminded: "remind",
    ApprovalEscalated: "escalate",
    ApprovalOverdue: "overdue",
}


def advance(approval: Approval, at: datetime) -> tuple[Approval, list[Event]]:
    """A pending approval after everything that is due, in the order of the times, and what is told of it. Pure."""
    ref, name = approval.held.action.ref(), approval.approval_id
    events: list[Event] = []
    if at >= approval.deadline and not approval.pauses:
        ended = replace(approval, state="expired", resolved_at=at)
        return ended, [resolved(ended, "expired", at)]
    after = approval
    if at >= approval.deadline and not approval.overdue:
        after = replace(after, overdue=True)
        events.append(ApprovalOverdue(approval_id=name, action=ref, deadline=approval.deadline, at=at))
    for item in approval.agenda[approval.agenda_done :]:
        if item.at > at:
            break
        after = replace(after, agenda_done=after.agenda_done + 1)
        if item.what == "remind":
            place = open_stage(after.rule, after.votes) or 0
            to = tuple(dict.fromkeys((*after.rule.stages[place].approvers, *after.escalated_to)))
            events.append(ApprovalReminded(approval_id=name, action=ref, step=item.step, to=to, reminded_at=at))
        else:
            after = replace(after, escalated_to=tuple(dict.fromkeys((*after.escalated_to, *item.to))))
            events.append(ApprovalEscalated(approval_id=name, action=ref, step=item.step, to=item.to, escalated_at=at))
    return after, events
