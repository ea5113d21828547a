"""Votes: gather, decide by :mod:`.rules`, write with what is told of it, publish."""

from __future__ import annotations

from datetime import datetime

from countersign_chassis import Connection, Failpoints
from countersign_contracts.approval_commands import ApprovalView, CastVote
from countersign_contracts.approvals import StandingOffer, Vote
from countersign_contracts.errors import CountersignError, Refused, Unavailable
from countersign_contracts.ids import new_id
from countersign_contracts.model import now

from .amending import amended
from .measures import Measures
from .outbox import Outbox, Told
from .reading import Reading, view
from .refusals import Refusals
from .roster import Roster, Voter
from .rules import admit, require_digest, require_open
from .standing_rules import check_offer
from .standings import StandingApprovals
from .store import Approval, Store
from .telling import Counted, count

#: Whom each service may vote for, and through which channels: the gateway knows people by their tokens.
_CALLERS = {"gateway": ("person", ("http", "cli")), "slack": ("slack", ("slack",))}


class Voting:
    """Answers CastVote."""

    def __init__(
        self,
        store: Store,
        reading: Reading,
        roster: Roster,
        standings: StandingApprovals,
        refusals: Refusals,
        outbox: Outbox,
        measures: Measures,
        failpoints: Failpoints,
    ) -> None:
        self._store = store
        self._reading = reading
        self._roster = roster
        self._standings = standings
        self._refusals = refusals
        self._outbox = outbox
        self._measures = measures
        self._failpoints = failpoints

    async def vote(self, command: CastVote, caller: str) -> ApprovalView:
        """Count a vote; refused ones are recorded with their reason. The same vote again changes nothing."""
        try:
            approval = await self._reading.find(command.approval_id)
        except CountersignError as error:
            self._measures.refused(error.code)
            raise
        voter: Voter | None = None
        try:
            require_caller(command, caller)
            voter = await self._roster.voter(command.voter)
            return await self._vote(approval, command, voter)
        except CountersignError as error:
            self._measures.refused(error.code)
            if error.status < 500:
                name = voter.name if voter is not None else None
                await self._refusals.record(approval, command, name, error)
            raise

    async def _vote(self, found: Approval, command: CastVote, voter: Voter) -> ApprovalView:
        # without the lock first: what is decided already is refused without waiting for others
        if said_before(found, command, voter):
            return view(found, self._roster)
        require_open(found.approval_id, found.state, found.deadline, now(), pauses=found.pauses)
        async with self._store.transaction() as connection:
            if voter.person is not None and not await self._store.is_newest(connection, voter.person):
                raise Unavailable(f"{voter.name} was changed at this moment: vote again")
            approval = await self._store.lock(connection, found.approval_id)
            if approval is None:
                raise CountersignError(f"there is no approval {found.approval_id}", code="not_found")
            if said_before(approval, command, voter):
                return view(approval, self._roster)
            counted, told = await self._count(connection, approval, command, voter, now())
        await self._failpoints.hit("approvals.after_vote_before_publish")
        await self._outbox.send(told)
        if counted.ended is not None:
            self._measures.ended(counted.ended)
            self._measures.decided(approval, counted.approval.votes[-1])
        return view(counted.approval, self._roster)

    async def _count(
        self, connection: Connection, approval: Approval, command: CastVote, voter: Voter, at: datetime
    ) -> tuple[Counted, list[Told]]:
        vote = judge(approval, command, voter, at)
        amendment = None
        if vote.changes is not None:
            amendment = amended(
                approval.held.action, vote.changes, approval.rule.changes, by=voter.name, request_id=new_id()
            )
        counted = count(approval, vote, at, amendment)
        after, events = counted.approval, list(counted.events)
        await self._store.keep_vote(connection, after, counted.ended, at, amendment)
        if counted.ended == "approved":
            events += await self._standings.grant(connection, after, at)
        return counted, await self._outbox.add(connection, [(event, approval.traceparent) for event in events])


def require_caller(command: CastVote, caller: str) -> None:
    """Each service votes for those alone whom it knows; nobody casts what only a standing approval casts."""
    kind, channels = _CALLERS.get(caller, ("", ()))
    if command.voter.partition(":")[0] != kind or command.channel not in channels:
        raise Refused(f"service {caller} may not vote as {command.voter} through channel {command.channel}")
    if command.assurance == "strong" and kind != "person":
        raise Refused(f"a vote through {command.channel} is never of strong assurance")


def judge(approval: Approval, command: CastVote, voter: Voter, at: datetime) -> Vote:
    """The vote as it counts; raises why it does not. Pure."""
    rule, held = approval.rule, approval.held
    require_open(approval.approval_id, approval.state, approval.deadline, at, pauses=approval.pauses)
    require_digest(command.digest, held.action.digest)
    place = admit(
        command.vote,
        voter.person,
        voter.name,
        command.assurance,
        held,
        rule,
        approval.votes,
        approval.escalated_to,
    )
    if any(vote.voter == voter.name for vote in approval.votes):
        raise CountersignError(
            f"{voter.name} has voted on {approval.approval_id} before; a vote is not changed", code="conflict"
        )
    if command.vote == "reject" and (command.changes is not None or command.standing is not None):
        raise CountersignError("a rejection changes nothing and allows nothing ahead", code="invalid")
    if command.changes is not None and command.standing is not None:
        raise CountersignError(
            "what is changed is decided again: allow alike actions ahead when you approve that one", code="invalid"
        )
    standing = command.standing
    if standing is not None:
        standing = check_offer(standing, rule.standing, held.resource, at)
    return Vote(
        voter=voter.name,
        vote=command.vote,
        digest=command.digest,
        channel=command.channel,
        comment=command.comment,
        voted_at=at,
        stage=place.stage,
        assurance=command.assurance,
        own=place.own,
        changes=command.changes,
        standing=standing,
        nth=1 + sum(vote.voter == voter.name for vote in approval.voided),
    )


def said_before(approval: Approval, command: CastVote, voter: Voter) -> bool:
    """Whether the same person said the same of the same before."""
    return any(
        vote.voter == voter.name
        and vote.vote == command.vote
        and vote.digest == command.digest
        and vote.changes == command.changes
        and _ahead(vote.standing) == _ahead(command.standing)
        for vote in approval.votes
    )


def _ahead(offer: StandingOffer | None) -> tuple[str, int] | None:
    """What tells two offers apart: a repeated `for so long` ends at another moment."""
    return None if offer is None else (offer.resource, offer.max_uses)
