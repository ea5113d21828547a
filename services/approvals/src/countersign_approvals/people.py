"""What follows when a person changes: their votes are voided, and what they allowed ahead revoked, if need be."""

from __future__ import annotations

from dataclasses import replace

from countersign_chassis import Delivery, Failpoints, Mirror
from countersign_contracts.approvals import ApprovalVoteVoided
from countersign_contracts.event import Event
from countersign_contracts.fleet import PersonChanged, PersonRecord, person_key
from countersign_contracts.model import now

from .measures import Measures
from .outbox import Outbox
from .roster import Roster
from .rules import still_counts
from .standings import StandingApprovals
from .store import Store


class PeopleChanges:
    """Handlers of consumer ``approvals-people``."""

    def __init__(
        self,
        store: Store,
        people: Mirror[PersonRecord],
        roster: Roster,
        standings: StandingApprovals,
        outbox: Outbox,
        measures: Measures,
        failpoints: Failpoints,
    ) -> None:
        self._store = store
        self._people = people
        self._roster = roster
        self._standings = standings
        self._outbox = outbox
        self._measures = measures
        self._failpoints = failpoints

    async def changed(self, batch: list[Delivery]) -> None:
        """Look again at everything that each changed person has a part in."""
        for delivery in batch:
            if isinstance(delivery.event, PersonChanged):
                await self._changed(delivery.event)

    async def _changed(self, event: PersonChanged) -> None:
        # judged is by the person as shown now: an earlier change that comes late must not void what counts again
        if event.revision > 0:
            await self._people.reach(person_key(event.person), event.revision)
            person = self._roster.known(event.person)
        else:  # an earlier registry did not say which record this is
            person = _as_told(event)
        await self._store.person_changed(event.person, event.revision)
        for approval_id in await self._store.voted_by(event.person):
            await self._look_again(approval_id, event.person, person)
        await self._standings.person_changed(event.person, person, event.by)

    async def _look_again(self, approval_id: str, name: str, person: PersonRecord | None) -> None:
        at = now()
        async with self._store.transaction() as connection:
            approval = await self._store.lock(connection, approval_id)
            vote = next((v for v in approval.votes if v.voter == name), None) if approval is not None else None
            if approval is None or vote is None or approval.state != "pending":
                return
            why = still_counts(vote, person, approval.rule, approval.held, approval.escalated_to)
            if why is None:
                return
            votes = tuple(v for v in approval.votes if v is not vote)
            after = replace(approval, votes=votes, voided=(*approval.voided, vote))
            await self._store.void(connection, approval_id, name, at)
            await self._store.set_asks(connection, after)
            voided: Event = ApprovalVoteVoided(
                approval_id=approval_id,
                action=approval.held.action.ref(),
                voter=name,
                reason=why,
                voided_at=at,
                nth=vote.nth,
            )
            told = await self._outbox.add(connection, [(voided, approval.traceparent)])
        self._measures.voided()
        await self._failpoints.hit("approvals.after_void_before_publish")
        await self._outbox.send(told)


def _as_told(event: PersonChanged) -> PersonRecord:
    fields = {"name": event.person, "token_sha256": "", "revision": 1}
    return PersonRecord.model_validate({**fields, **event.model_dump(include={"roles", "status", "groups"})})
