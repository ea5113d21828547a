"""Where approvals are asked for and withdrawn: actions held and cancelled."""

from __future__ import annotations

from datetime import datetime

from countersign_chassis import Delivery, Failpoints
from countersign_contracts.actions import ActionCancelled, ActionHeld
from countersign_contracts.approvals import Vote
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now

from .choosing import agenda, asked_by, choose, deadline_of
from .declaration_store import DeclarationStore
from .declarations import Declared
from .measures import Measures
from .outbox import Outbox
from .roster import Roster
from .rules import admit, own_names
from .standings import StandingApprovals
from .store import Approval, New, Store
from .telling import count, everything, requested, resolved


class Desk:
    """Handlers of consumer ``approvals-actions``."""

    def __init__(
        self,
        store: Store,
        declarations: DeclarationStore,
        roster: Roster,
        standings: StandingApprovals,
        outbox: Outbox,
        measures: Measures,
        failpoints: Failpoints,
    ) -> None:
        self._store = store
        self._declarations = declarations
        self._roster = roster
        self._standings = standings
        self._outbox = outbox
        self._measures = measures
        self._failpoints = failpoints

    async def actions(self, batch: list[Delivery]) -> None:
        """Held actions ask people; cancelled ones ask no more. A repeat publishes the same events again."""
        held = [d for d in batch if isinstance(d.event, ActionHeld)]
        cancelled = [d.event.action.request_id for d in batch if isinstance(d.event, ActionCancelled)]
        if held:
            await self._held(held)
        if cancelled:
            await self._cancelled(cancelled)

    async def _held(self, batch: list[Delivery]) -> None:
        rules, at = (await self._declarations.read()).rules, now()
        by_id = {d.event.approval_id: d for d in batch}
        asked = {id: asked_for(d.event, rules, at, d.envelope.traceparent) for id, d in by_id.items()}
        async with self._store.transaction() as connection:
            new = await self._store.insert(connection, [_new(each, by_id[id]) for id, each in asked.items()])
            events = [(requested(asked[id]), asked[id].traceparent) for id in asked if id in new]
            told = await self._outbox.add(connection, events)
        await self._failpoints.hit("approvals.after_commit_before_publish")
        await self._outbox.send(told)
        if repeated := [approval_id for approval_id in by_id if approval_id not in new]:
            await self._again({approval_id: by_id[approval_id] for approval_id in repeated})
        for approval_id, delivery in by_id.items():
            if delivery.event.action.amends is not None:
                await self._precast(approval_id)
            if approval_id not in new or asked[approval_id].rule.standing is not None:
                await self._standings.try_on(approval_id)

    async def _again(self, repeated: dict[str, Delivery]) -> None:
        """Who asks once more hears the same; how it ended past the stream's deduplication, since they missed that."""
        await self._keep_events(list(repeated))
        await self._outbox.repeat(list(repeated))
        await self._outbox.resolved_again({id: d.stream_seq for id, d in repeated.items() if d.tries == 1})

    async def _keep_events(self, approval_ids: list[str]) -> None:
        """Write the events of approvals that an earlier version asked for."""
        without = await self._outbox.without_events(approval_ids)
        for approval in await self._store.many(without):
            async with self._store.transaction() as connection:
                await self._outbox.add(connection, everything(approval))

    async def keep_unpublished(self) -> None:
        """Take over what an earlier version noted as not published yet."""
        noted = await self._store.noted_unpublished()
        await self._keep_events(noted)
        await self._store.forget_unpublished(noted)

    async def _precast(self, approval_id: str) -> None:
        """Whoever changed an action into this one has approved it by that, if they may."""
        found = await self._store.get(approval_id)
        if found is None:
            return
        first = await self._store.amended_as(found.held.action.amends or "")
        amendment = first.amendment if first is not None else None
        if first is None or amendment is None or amendment.digest != found.held.action.digest:
            return
        if amendment.request_id != found.held.action.request_id:
            return
        before = next(vote for vote in first.votes if vote.voter == amendment.by and vote.changes is not None)
        try:
            person = (await self._roster.voter(f"person:{before.voter}")).person
        except CountersignError:
            return  # who they are now cannot be seen: they are asked like others
        async with self._store.transaction() as connection:
            if person is not None and not await self._store.is_newest(connection, person):
                return
            approval = await self._store.lock(connection, approval_id)
            at = now()
            if approval is None or approval.state != "pending" or approval.votes or approval.voided:
                return
            try:
                rule, held = approval.rule, approval.held
                place = admit("approve", person, before.voter, before.assurance, held, rule, (), approval.escalated_to)
            except CountersignError:
                return  # the new action is not theirs to approve: they are not asked
            vote = Vote(
                voter=before.voter,
                vote="approve",
                digest=held.action.digest,
                channel=before.channel,
                comment=before.comment,
                voted_at=at,
                stage=place.stage,
                assurance=before.assurance,
                own=place.own,
            )
            counted = count(approval, vote, at)
            await self._store.keep_vote(connection, counted.approval, counted.ended, at)
            told = await self._outbox.add(connection, [(event, approval.traceparent) for event in counted.events])
        await self._outbox.send(told)
        if counted.ended is not None:
            self._measures.ended(counted.ended)

    async def _cancelled(self, request_ids: list[str]) -> None:
        at = now()
        async with self._store.transaction() as connection:
            pending = await self._store.lock_pending(connection, request_ids)
            await self._store.resolve(connection, [each.approval_id for each in pending], "cancelled", at)
            events = [(resolved(each, "cancelled", at), each.traceparent) for each in pending]
            told = await self._outbox.add(connection, events)
        self._measures.ended("cancelled", len(pending))
        await self._outbox.send(told)


def asked_for(held: ActionHeld, rules: tuple[Declared, ...], at: datetime, trace: str | None) -> Approval:
    """The approval that a held action asks for: by which rule, until when, and what happens meanwhile. Pure."""
    chosen = choose(rules, held)
    deadline = deadline_of(chosen, held, at)
    return Approval(
        approval_id=held.approval_id,
        state="pending",
        held=held,
        requested_at=at,
        deadline=deadline,
        rule=asked_by(chosen),
        traceparent=trace,
        agenda=agenda(chosen, at, deadline).items,
    )


def _new(approval: Approval, delivery: Delivery) -> New:
    held = approval.held
    barred = frozenset() if approval.rule.allow_own else own_names(held.action, held.owner_oncall)
    return New(approval, delivery.envelope.body, sorted(name for name in barred if "\0" not in name))
