"""Standing approvals: granted with an approval, used by alike actions, revoked."""

from __future__ import annotations

from datetime import datetime

from countersign_chassis import Connection, Failpoints
from countersign_contracts.approval_commands import ListStandings, RevokeStanding, Standings
from countersign_contracts.approvals import Standing, StandingGranted, StandingRevoked, Vote
from countersign_contracts.errors import CountersignError
from countersign_contracts.event import Event
from countersign_contracts.fleet import PersonRecord
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now

from .measures import Measures
from .outbox import Outbox, Told
from .roster import Roster
from .rules import admit, still_counts
from .standing_rules import covers, narrowest, not_riskier
from .standing_store import Granted, StandingStore
from .store import Approval, Store
from .telling import Counted, count


class StandingApprovals:
    """Grants, uses and revokes them."""

    def __init__(
        self,
        store: Store,
        standings: StandingStore,
        roster: Roster,
        outbox: Outbox,
        measures: Measures,
        failpoints: Failpoints,
    ) -> None:
        self._store = store
        self._standings = standings
        self._roster = roster
        self._outbox = outbox
        self._measures = measures
        self._failpoints = failpoints

    async def grant(self, connection: Connection, approval: Approval, at: datetime) -> list[Event]:
        """What the votes of an approval that was just approved allow ahead, written beside it."""
        offer = narrowest(approval.votes, approval.held.resource)
        if offer is None or offer.until <= at:
            return []
        action = approval.held.action
        approving = tuple(vote for vote in approval.votes if vote.vote == "approve")
        standing = Standing(
            standing_id=prefixed("std"),
            approval_id=approval.approval_id,
            agent_id=action.agent_id,
            tool=action.tool,
            env=action.env,
            resource=offer.resource,
            granted_by=tuple(vote.voter for vote in approving),
            granted_at=at,
            until=offer.until,
            max_uses=offer.max_uses,
        )
        await self._standings.insert(connection, Granted(standing, approval.held.decision.risk, approving))
        self._measures.standing_granted()
        return [StandingGranted(standing=standing)]

    async def try_on(self, approval_id: str) -> None:
        """Approve a pending action that nobody voted on, if one in force is for it, and its granters may still."""
        approval = await self._store.get(approval_id)
        if approval is None or not _untouched(approval) or approval.rule.standing is None:
            return
        for granted in await self._standings.candidates(approval.held.action, now()):
            try:
                people = {v.voter: (await self._roster.voter(f"person:{v.voter}")).person for v in granted.votes}
            except CountersignError:
                return  # who they are now cannot be seen: people are asked
            if await self._use(approval_id, granted, people):
                return

    async def _use(self, approval_id: str, granted: Granted, people: dict[str, PersonRecord | None]) -> bool:
        standing_id, at = granted.standing.standing_id, now()
        async with self._store.transaction() as connection:
            approval = await self._store.lock(connection, approval_id)
            if approval is None or not _untouched(approval) or at >= approval.deadline:
                return True
            counted = cast_again(approval, granted, people, at)
            if not counted or not await self._standings.take(connection, standing_id, at):
                return False
            for each in counted:
                await self._store.add_vote(connection, approval_id, each.approval.votes[-1])
            await self._store.resolve(connection, [approval_id], "approved", at)
            await self._standings.use(connection, standing_id, approval_id, at)
            events = [(event, approval.traceparent) for each in counted for event in each.events]
            told = await self._outbox.add(connection, events)
        self._measures.ended("approved")
        self._measures.standing_used()
        await self._failpoints.hit("approvals.after_standing_before_publish")
        await self._outbox.send(told)
        return True

    # --- people -----------------------------------------------------------------------------------

    async def page(self, command: ListStandings) -> Standings:
        """A page of standing approvals, newest first."""
        rows = await self._standings.page(
            agent_id=command.agent_id,
            in_force_at=now() if command.in_force else None,
            limit=command.limit + 1,
            after=command.after,
        )
        items = tuple(rows[: command.limit])
        return Standings(items=items, next=items[-1].standing_id if len(rows) > command.limit else None)

    async def revoke(self, command: RevokeStanding) -> Standing:
        """Once this returns, nothing more is approved by it. Again is harmless; raises `not_found`."""
        async with self._store.transaction() as connection:
            revoked = await self._standings.revoke(connection, command.standing_id, command.by, now())
            known = revoked or await self._standings.get(connection, command.standing_id)
            told = await self._tell_revoked(connection, revoked, command.reason)
        if known is None:
            raise CountersignError(f"there is no standing approval {command.standing_id}", code="not_found")
        await self._outbox.send(told)
        return known

    async def person_changed(self, name: str, person: PersonRecord | None, by: str) -> None:
        """Revoke what somebody granted who could not grant it any more."""
        for granted in await self._standings.granted_by(name, now()):
            standing = granted.standing
            approval = await self._store.get(standing.approval_id)
            vote = next(vote for vote in granted.votes if vote.voter == name)
            if approval is None:
                continue
            why = still_counts(vote, person, approval.rule, approval.held, approval.escalated_to)
            if why is None:
                continue
            async with self._store.transaction() as connection:
                revoked = await self._standings.revoke(connection, standing.standing_id, by, now())
                told = await self._tell_revoked(connection, revoked, why)
            await self._outbox.send(told)

    async def _tell_revoked(self, connection: Connection, revoked: Standing | None, reason: str) -> list[Told]:
        if revoked is None:
            return []
        return await self._outbox.add(connection, [(StandingRevoked(standing=revoked, reason=reason), None)])


def cast_again(
    approval: Approval, granted: Granted, people: dict[str, PersonRecord | None], at: datetime
) -> list[Counted]:
    """The granters' votes on this action, one after the other; none, unless all count and are enough. Pure."""
    held, standing = approval.held, granted.standing
    if held.resource is None or not covers(standing.resource, held.resource):
        return []
    if not not_riskier(held.decision.risk, granted.risk) or standing.granted_at > approval.requested_at:
        return []
    steps: list[Counted] = []
    now_at = approval
    for before in granted.votes:
        try:
            place = admit(
                "approve",
                people[before.voter],
                before.voter,
                before.assurance,
                held,
                now_at.rule,
                now_at.votes,
                now_at.escalated_to,
            )
        except CountersignError:
            return []
        vote = Vote(
            voter=before.voter,
            vote="approve",
            digest=held.action.digest,
            channel="standing",
            comment=f"standing approval {standing.standing_id}",
            voted_at=at,
            stage=place.stage,
            assurance=before.assurance,
            own=place.own,
            standing_id=standing.standing_id,
        )
        steps.append(count(now_at, vote, at))
        now_at = steps[-1].approval
        if now_at.state != "pending":
            break
    return steps if now_at.state == "approved" else []


def _untouched(approval: Approval) -> bool:
    """Whether people have not begun to decide on it."""
    return approval.state == "pending" and not approval.votes and not approval.voided
