"""The approvals' SQL: approvals and their votes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import asyncpg

from countersign_chassis import Connection, Database
from countersign_contracts.actions import ActionHeld
from countersign_contracts.approval_rules import Approver
from countersign_contracts.approvals import Amendment, ApprovalState, AskedBy, Vote
from countersign_contracts.fleet import PersonRecord

from .choosing import Agenda, Appointment
from .rules import waits_on

_FIELDS = (
    "approval_id, state, held, requested_at, deadline, resolved_at, traceparent, asked_by, agenda, agenda_done,"
    " escalated_to, overdue, amendment"
)
_INSERT = """
INSERT INTO approval (approval_id, request_id, agent_id, digest, state, held, requested_at, deadline, traceparent,
                      tool, env, risk, asked_by, agenda, next_at, asks, barred)
SELECT id, request_id, agent_id, digest, 'pending', held, requested_at, deadline, traceparent,
       tool, env, risk, asked_by, agenda, next_at,
       ARRAY(SELECT json_array_elements_text(asks)), ARRAY(SELECT json_array_elements_text(barred))
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::timestamptz[], $7::timestamptz[],
            $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::timestamptz[],
            $15::json[], $16::json[])
     AS n (id, request_id, agent_id, digest, held, requested_at, deadline, traceparent, tool, env, risk, asked_by,
           agenda, next_at, asks, barred)
ON CONFLICT DO NOTHING RETURNING approval_id
"""
_VOTES = """
SELECT approval_id, voter, vote, digest, channel, comment, voted_at, body, voided_at FROM vote
WHERE approval_id = ANY($1) ORDER BY voted_at, voter, nth
"""
_ADD_VOTE = """
INSERT INTO vote (approval_id, voter, vote, digest, channel, voted_at, nth, body)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_VOID = "UPDATE vote SET voided_at = $3 WHERE approval_id = $1 AND voter = $2 AND voided_at IS NULL"
_DUE = f"""
SELECT {_FIELDS} FROM approval WHERE state = 'pending' AND next_at <= $1
ORDER BY next_at LIMIT $2 FOR UPDATE SKIP LOCKED
"""  # noqa: S608
_JUDGED = """
INSERT INTO person_judged (name, revision) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET revision = greatest(person_judged.revision, excluded.revision) RETURNING revision
"""
_VOTED_BY = """
SELECT a.approval_id FROM vote v JOIN approval a USING (approval_id)
WHERE v.voter = $1 AND v.voided_at IS NULL AND a.state = 'pending' ORDER BY a.approval_id
"""
_AMENDED_AS = f"SELECT {_FIELDS} FROM approval WHERE request_id = $1 AND state = 'amended'"  # noqa: S608
_AGES = """
SELECT count(*) AS n, min(requested_at) AS oldest,
       max(extract(epoch FROM $1::timestamptz - requested_at)
           / greatest(extract(epoch FROM deadline - requested_at), 1)) AS used,
       count(*) FILTER (WHERE requested_at > $1::timestamptz - interval '1 minute') AS "1m",
       count(*) FILTER (WHERE requested_at > $1::timestamptz - interval '10 minutes') AS "10m",
       count(*) FILTER (WHERE requested_at > $1::timestamptz - interval '1 hour') AS "1h",
       count(*) FILTER (WHERE requested_at > $1::timestamptz - interval '1 day') AS "1d"
FROM approval WHERE state = 'pending'
"""


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval with its votes: those that count, and those that were voided."""

    approval_id: str
    state: ApprovalState
    held: ActionHeld
    requested_at: datetime
    deadline: datetime
    rule: AskedBy
    resolved_at: datetime | None = None
    traceparent: str | None = None
    agenda: tuple[Appointment, ...] = ()
    agenda_done: int = 0
    escalated_to: tuple[Approver, ...] = ()
    overdue: bool = False
    amendment: Amendment | None = None
    votes: tuple[Vote, ...] = ()
    voided: tuple[Vote, ...] = ()

    @property
    def pauses(self) -> bool:
        """Whether it stays open after its deadline."""
        return self.rule.at_deadline == "pause"

    @property
    def asks(self) -> list[str]:
        """Whom the open stage asks."""
        return waits_on(self.rule, self.votes, self.escalated_to, self.held)

    def next_at(self) -> datetime | None:
        """When something happens by itself, if it stays pending."""
        times = [item.at for item in self.agenda[self.agenda_done :]]
        return min(times if self.overdue else [*times, self.deadline], default=None)


@dataclass(frozen=True, slots=True)
class New:
    """An approval to be written: the event's body as received, and whose own it is."""

    approval: Approval
    body: bytes
    barred: Sequence[str]


@dataclass(frozen=True, slots=True)
class Ages:
    """How many wait, since when the oldest does, how many are of each age, and how much of its time the one nearest to
    its deadline has used."""

    count: int
    oldest: datetime | None
    by_age: dict[str, int]
    used: float


class Store:
    """The queries."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A transaction for the methods that take a connection."""
        return self._db.transaction()

    async def insert(self, connection: Connection, approvals: Sequence[New]) -> set[str]:
        """Write new approvals; known ones stay as they are. Returns the ids of those that were new."""
        columns = zip(*(_columns(new) for new in approvals), strict=True)
        return {row["approval_id"] for row in await connection.fetch(_INSERT, *map(list, columns))}

    async def get(self, approval_id: str) -> Approval | None:
        """One approval."""
        found = await self.many([approval_id])
        return found[0] if found else None

    async def many(self, approval_ids: Sequence[str]) -> list[Approval]:
        """Approvals by id, with their votes; unknown ids are missing."""
        rows = await self._db.pool.fetch(
            f"SELECT {_FIELDS} FROM approval WHERE approval_id = ANY($1)",  # noqa: S608
            list(approval_ids),
        )
        return await self._with_votes(self._db.pool, rows)

    async def lock(self, connection: Connection, approval_id: str) -> Approval | None:
        """One approval, held against other changes until the transaction ends."""
        rows = await connection.fetch(
            f"SELECT {_FIELDS} FROM approval WHERE approval_id = $1 FOR UPDATE",  # noqa: S608
            approval_id,
        )
        found = await self._with_votes(connection, rows)
        return found[0] if found else None

    async def lock_pending(self, connection: Connection, request_ids: Sequence[str]) -> list[Approval]:
        """The pending approvals of these actions, held as by :meth:`lock`."""
        rows = await connection.fetch(
            f"SELECT {_FIELDS} FROM approval WHERE request_id = ANY($1::uuid[]) AND state = 'pending'"  # noqa: S608
            " ORDER BY approval_id FOR UPDATE",
            [UUID(request_id) for request_id in request_ids],
        )
        return await self._with_votes(connection, rows)

    async def due(self, connection: Connection, at: datetime, limit: int) -> list[Approval]:
        """Approvals to which something happens by itself now, held; several replicas get different ones."""
        return await self._with_votes(connection, await connection.fetch(_DUE, at, limit))

    async def amended_as(self, request_id: str) -> Approval | None:
        """How the action of that id was changed, if it was."""
        found = await self._with_votes(self._db.pool, await self._db.pool.fetch(_AMENDED_AS, UUID(request_id)))
        return found[0] if found else None

    async def is_newest(self, connection: Connection, person: PersonRecord) -> bool:
        """Whether no newer record of the person is known; that stays so until the transaction ends.

        Before any approval is locked: so nobody waits for one another in a circle.
        """
        known: int = await connection.fetchval(_JUDGED, person.name, person.revision)
        return known <= person.revision

    async def person_changed(self, name: str, revision: int) -> None:
        """From now on nothing is judged by an older record; returns once votes that were are committed."""
        await self._db.pool.execute(_JUDGED, name, revision)

    async def voted_by(self, person: str) -> list[str]:
        """The ids of pending approvals on which this person has a vote that counts."""
        return [row["approval_id"] for row in await self._db.pool.fetch(_VOTED_BY, person)]

    async def add_vote(self, connection: Connection, approval_id: str, vote: Vote) -> None:
        """Write a vote on a locked approval."""
        await connection.execute(
            _ADD_VOTE,
            approval_id,
            vote.voter,
            vote.vote,
            vote.digest,
            vote.channel,
            vote.voted_at,
            vote.nth,
            vote.model_dump_json(exclude_none=True),
        )

    async def void(self, connection: Connection, approval_id: str, voter: str, at: datetime) -> None:
        """The person's vote counts no more."""
        await connection.execute(_VOID, approval_id, voter, at)

    async def keep_vote(
        self,
        connection: Connection,
        after: Approval,
        ended: ApprovalState | None,
        at: datetime,
        amendment: Amendment | None = None,
    ) -> None:
        """Write the last vote of a locked approval, and what became of it thereby."""
        await self.add_vote(connection, after.approval_id, after.votes[-1])
        if ended is not None:
            await self.resolve(connection, [after.approval_id], ended, at, amendment)
        else:
            await self.set_asks(connection, after)

    async def set_asks(self, connection: Connection, approval: Approval) -> None:
        """Whom the open stage asks now."""
        await connection.execute(
            "UPDATE approval SET asks = $2 WHERE approval_id = $1", approval.approval_id, approval.asks
        )

    async def set_progress(self, connection: Connection, approval: Approval) -> None:
        """What happened by itself to a locked approval that stays pending."""
        await connection.execute(
            "UPDATE approval SET agenda_done = $2, next_at = $3, escalated_to = $4, overdue = $5, asks = $6"
            " WHERE approval_id = $1",
            approval.approval_id,
            approval.agenda_done,
            approval.next_at(),
            list(approval.escalated_to),
            approval.overdue,
            approval.asks,
        )

    async def resolve(
        self,
        connection: Connection,
        approval_ids: Sequence[str],
        state: ApprovalState,
        at: datetime,
        amendment: Amendment | None = None,
    ) -> None:
        """End locked approvals."""
        await connection.execute(
            "UPDATE approval SET state = $2, resolved_at = $3, next_at = NULL, amendment = $4"
            " WHERE approval_id = ANY($1) AND state = 'pending'",
            list(approval_ids),
            state,
            at,
            None if amendment is None else amendment.to_bytes().decode(),
        )

    async def page(self, wanted: Sequence[tuple[str, Any]], *, limit: int, after: str | None) -> list[Approval]:
        """Newest first, after the approval ``after``; ``wanted`` are conditions with ``${}`` for their value."""
        given: list[Any] = []
        where = ["true"]
        if after is not None:
            of = "(SELECT requested_at, approval_id FROM approval WHERE approval_id = ${})"
            wanted = [*wanted, (f"(requested_at, approval_id) < {of}", after)]
        for text, value in wanted:
            given.append(value)
            where.append(text.replace("{}", str(len(given))))
        query = (
            f"SELECT {_FIELDS} FROM approval a WHERE {' AND '.join(where)}"  # noqa: S608
            f" ORDER BY requested_at DESC, approval_id DESC LIMIT {int(limit)}"
        )
        return await self._with_votes(self._db.pool, await self._db.fetch_planned(query, *given))

    async def noted_unpublished(self) -> list[str]:
        """Approvals of which an earlier version may not have published everything."""
        return [row["approval_id"] for row in await self._db.pool.fetch("SELECT approval_id FROM unpublished")]

    async def forget_unpublished(self, approval_ids: Sequence[str]) -> None:
        """Their events are kept now."""
        await self._db.pool.execute("DELETE FROM unpublished WHERE approval_id = ANY($1)", list(approval_ids))

    async def ages(self, at: datetime) -> Ages:
        """How many wait, by age."""
        row = await self._db.pool.fetchrow(_AGES, at)
        assert row is not None  # noqa: S101 - an aggregate has a row
        steps = [0, row["1m"], row["10m"], row["1h"], row["1d"], row["n"]]
        names = ("to_1m", "to_10m", "to_1h", "to_1d", "older")
        younger = dict(zip(names, (b - a for a, b in itertools.pairwise(steps)), strict=True))
        return Ages(row["n"], row["oldest"], younger, float(row["used"] or 0))

    async def _with_votes(
        self, connection: Connection | asyncpg.Pool[asyncpg.Record], rows: list[asyncpg.Record]
    ) -> list[Approval]:
        counted: dict[str, list[Vote]] = {row["approval_id"]: [] for row in rows}
        voided: dict[str, list[Vote]] = {row["approval_id"]: [] for row in rows}
        for row in await connection.fetch(_VOTES, list(counted)) if rows else ():
            (counted if row["voided_at"] is None else voided)[row["approval_id"]].append(_vote(row))
        return [_approval(row, tuple(counted[row["approval_id"]]), tuple(voided[row["approval_id"]])) for row in rows]


def _columns(new: New) -> tuple[Any, ...]:
    approval, held = new.approval, new.approval.held
    return (
        approval.approval_id,
        UUID(held.action.request_id),
        held.action.agent_id,
        held.action.digest,
        new.body,
        approval.requested_at,
        approval.deadline,
        approval.traceparent,
        held.action.tool,
        held.action.env,
        held.decision.risk,
        approval.rule.model_dump_json(exclude_none=True),
        Agenda(items=approval.agenda).model_dump_json(exclude_none=True),
        approval.next_at(),
        json.dumps(new.approval.asks),
        json.dumps(new.barred),
    )


def _approval(row: asyncpg.Record, votes: tuple[Vote, ...], voided: tuple[Vote, ...]) -> Approval:
    return Approval(
        approval_id=row["approval_id"],
        state=row["state"],
        held=ActionHeld.from_bytes(row["held"]),
        requested_at=row["requested_at"],
        deadline=row["deadline"],
        rule=_asked_by(row["asked_by"]),
        resolved_at=row["resolved_at"],
        traceparent=row["traceparent"],
        agenda=Agenda.model_validate_json(row["agenda"]).items,
        agenda_done=row["agenda_done"],
        escalated_to=tuple(row["escalated_to"]),
        overdue=row["overdue"],
        amendment=None if row["amendment"] is None else Amendment.model_validate_json(row["amendment"]),
        votes=votes,
        voided=voided,
    )


@lru_cache(maxsize=256)
def _asked_by(body: str) -> AskedBy:
    """Rules are few, and approvals by each many."""
    return AskedBy.model_validate_json(body)


def _vote(row: asyncpg.Record) -> Vote:
    if row["body"] is not None:
        return Vote.model_validate_json(row["body"])
    return Vote(**{name: row[name] for name in ("voter", "vote", "digest", "channel", "comment", "voted_at")})
