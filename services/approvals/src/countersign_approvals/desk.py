"""Where approvals are asked for, voted on and ended: gather, decide by :mod:`.rules`, write, publish."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from countersign_chassis import Bus, Delivery, Failpoints
from countersign_contracts.actions import ActionCancelled, ActionHeld
from countersign_contracts.approval_commands import Approvals, ApprovalView, CastVote, GetApproval, ListApprovals
from countersign_contracts.approvals import ApprovalRequested, ApprovalResolved, ApprovalVoted, Vote
from countersign_contracts.errors import CountersignError
from countersign_contracts.event import Event
from countersign_contracts.ids import is_request_id
from countersign_contracts.model import now
from countersign_contracts.sealed import has_sealed, shown

from .rules import VoteRefused, outcome_of, require_digest, require_eligible, require_open
from .settings import Settings
from .store import Approval, Store


class Desk:
    """Handlers of the approvals service."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        bus: Bus,
        failpoints: Failpoints,
        log: Any,
        resolved: Counter,
        refused: Counter,
        pending: Gauge,
        oldest: Gauge,
        time_to_decision: Histogram,
    ) -> None:
        self._settings = settings
        self._store = store
        self._bus = bus
        self._failpoints = failpoints
        self._log = log
        self._resolved = resolved
        self._refused = refused
        self._pending = pending
        self._oldest = oldest
        self._time_to_decision = time_to_decision

    # --- events -----------------------------------------------------------------------------------

    async def actions(self, batch: list[Delivery]) -> None:
        """Held actions ask people; cancelled ones ask no more. A repeat publishes the same events again."""
        held = [d for d in batch if isinstance(d.event, ActionHeld)]
        cancelled = [d.event.action.request_id for d in batch if isinstance(d.event, ActionCancelled)]
        if held:
            await self._held(held)
        if cancelled:
            await self._publish_ended(await self._store.cancel(cancelled, now()))

    async def _held(self, held: list[Delivery]) -> None:
        at = now()
        await self._store.request(
            [
                (
                    d.event,
                    d.envelope.body,
                    at,
                    at + timedelta(seconds=d.event.deadline_s),
                    d.envelope.traceparent,
                )
                for d in held
            ]
        )
        await self._failpoints.hit("approvals.after_commit_before_publish")
        approvals = await self._store.many([d.event.approval_id for d in held])
        await self._bus.publish_all([event for approval in approvals for event in _events(approval)])
        await self._say_again(approvals, {d.event.approval_id: d.stream_seq for d in held if d.tries == 1})

    async def _say_again(self, approvals: Sequence[Approval], asked: Mapping[str, int]) -> None:
        """Who asks once more has not heard how it ended: the stream's deduplication must let the answer through."""
        for approval in approvals:
            if approval.approval_id in asked and (resolved := _resolved(approval)):
                await self._bus.publish_all(
                    [(resolved, approval.traceparent)], attempt=str(asked[approval.approval_id])
                )

    # --- people -----------------------------------------------------------------------------------

    async def list(self, command: ListApprovals) -> Approvals:
        """A page of approvals, newest first."""
        rows = await self._store.page(
            state=command.state,
            agent_id=command.agent_id,
            request_id=command.request_id,
            limit=command.limit + 1,
            after=command.after,
        )
        items = tuple(view(row) for row in rows[: command.limit])
        return Approvals(items=items, next=items[-1].approval_id if len(rows) > command.limit else None)

    async def get(self, command: GetApproval) -> ApprovalView:
        """One approval, by its id or by its action's request id."""
        return view(await self._find(command.approval_id))

    async def _find(self, name: str) -> Approval:
        if is_request_id(name):
            rows = await self._store.page(state=None, agent_id=None, request_id=name, limit=1, after=None)
            found = rows[0] if rows else None
        else:
            found = await self._store.get(name)
        if found is None:
            raise CountersignError(f"there is no approval {name}", code="not_found")
        return found

    async def vote(self, command: CastVote) -> ApprovalView:
        """Count a vote; refused ones are counted by their reason. The same vote again changes nothing."""
        try:
            return await self._vote(command)
        except CountersignError as error:
            self._refused.labels("not_entitled" if isinstance(error, VoteRefused) else error.code).inc()
            raise

    async def _vote(self, command: CastVote) -> ApprovalView:
        where, _, voter = command.voter.partition(":")
        if where != "person":
            raise VoteRefused(f"nobody is enrolled as {voter} in {where}")
        at = now()
        approval_id = (await self._find(command.approval_id)).approval_id
        vote = Vote(
            voter=voter,
            vote=command.vote,
            digest=command.digest,
            channel=command.channel,
            comment=command.comment,
            voted_at=at,
        )
        async with self._store.transaction() as connection:
            approval = await self._store.lock(connection, approval_id)
            if approval is None:
                raise CountersignError(f"there is no approval {approval_id}", code="not_found")
            if any(v.voter == vote.voter and v.vote == vote.vote and v.digest == vote.digest for v in approval.votes):
                return view(approval)
            require_open(approval_id, approval.state, approval.deadline, at)
            require_digest(command.digest, approval.held.action.digest)
            require_eligible(voter, approval.held.action, approval.held.owner_oncall)
            if not await self._store.add_vote(connection, approval_id, vote):
                raise CountersignError(f"{voter} has voted on {approval_id} before", code="conflict")
            if outcome := outcome_of((*approval.votes, vote)):
                await self._store.resolve(connection, approval_id, outcome, at)
                self._time_to_decision.observe((at - approval.requested_at).total_seconds())
        await self._failpoints.hit("approvals.after_vote_before_publish")
        await self._publish_quietly([approval_id])
        return view(await self._find(approval_id))

    # --- time -------------------------------------------------------------------------------------

    async def watch_deadlines(self) -> None:
        """End what nobody decided in time, for ever."""
        while True:
            expired = await self._store.expire(now(), 200)
            if expired:
                await self._publish_quietly(expired)
                continue
            count, oldest = await self._store.pending()
            self._pending.set(count)
            self._oldest.set((now() - oldest).total_seconds() if oldest else 0)
            await asyncio.sleep(self._settings.deadline_poll_s)

    async def publish_leftovers(self) -> None:
        """Publish what a crash or a lost bus left unpublished, for ever."""
        while True:
            leftovers = await self._store.leftovers(now() - timedelta(seconds=self._settings.leftovers_poll_s))
            if leftovers:
                await self._publish_ended(leftovers)
            await asyncio.sleep(self._settings.leftovers_poll_s)

    async def _publish_quietly(self, approval_ids: Sequence[str]) -> None:
        """Publish now if possible; what the bus does not take stays noted and is published later."""
        try:
            await self._publish_ended(approval_ids)
        except CountersignError as error:
            self._log.warning("approval events not published yet", error=error.detail)

    async def _publish_ended(self, approval_ids: Sequence[str]) -> None:
        approvals = await self._store.many(approval_ids)
        await self._bus.publish_all([event for approval in approvals for event in _events(approval)])
        await self._store.published(approval_ids)
        for approval in approvals:
            if approval.state != "pending":
                self._resolved.labels(approval.state).inc()


def view(approval: Approval) -> ApprovalView:
    """What people are shown."""
    args = approval.held.action.args
    return ApprovalView(
        approval_id=approval.approval_id,
        state=approval.state,
        action=approval.held.action,
        shown_args=shown(args) if has_sealed(args) else None,
        decision=approval.held.decision,
        owner_team=approval.held.owner_team,
        owner_oncall=approval.held.owner_oncall,
        requested_at=approval.requested_at,
        deadline=approval.deadline,
        votes=approval.votes,
        resolved_at=approval.resolved_at,
    )


def _events(approval: Approval) -> Iterable[tuple[Event, str | None]]:
    """Every event of an approval up to now: the same each time, so publishing them again is harmless."""
    ref, trace = approval.held.action.ref(), approval.traceparent
    name = approval.approval_id
    yield (
        ApprovalRequested(approval_id=name, action=ref, requested_at=approval.requested_at, deadline=approval.deadline),
        trace,
    )
    for vote in approval.votes:
        yield ApprovalVoted(approval_id=name, action=ref, vote=vote), trace
    if resolved := _resolved(approval):
        yield resolved, trace


def _resolved(approval: Approval) -> ApprovalResolved | None:
    if approval.state == "pending" or approval.resolved_at is None:
        return None
    return ApprovalResolved(
        approval_id=approval.approval_id,
        action=approval.held.action.ref(),
        state=approval.state,
        votes=approval.votes,
        resolved_at=approval.resolved_at,
    )
