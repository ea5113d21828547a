"""The approvals' SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from countersign_chassis import Connection, Database
from countersign_contracts.actions import ActionHeld
from countersign_contracts.approvals import ApprovalState, Vote

_FIELDS = "approval_id, state, held, requested_at, deadline, resolved_at, traceparent"


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval with its votes."""

    approval_id: str
    state: ApprovalState
    held: ActionHeld
    requested_at: datetime
    deadline: datetime
    resolved_at: datetime | None
    traceparent: str | None
    votes: tuple[Vote, ...]


class Store:
    """Approvals and votes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def transaction(self) -> Any:
        """A transaction for the methods that take a connection."""
        return self._db.transaction()

    async def request(self, held: Sequence[tuple[ActionHeld, bytes, datetime, datetime, str | None]]) -> None:
        """Write new approvals ``(event, body, requested_at, deadline, traceparent)``; known ones stay as they are."""
        await self._db.pool.execute(
            """
            INSERT INTO approval (approval_id, request_id, agent_id, digest, state, held, requested_at, deadline,
                                  traceparent)
            SELECT a, r, g, d, 'pending', h, at, dl, t
            FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::timestamptz[],
                        $7::timestamptz[], $8::text[]) AS u (a, r, g, d, h, at, dl, t)
            ON CONFLICT DO NOTHING
            """,
            [event.approval_id for event, *_ in held],
            [UUID(event.action.request_id) for event, *_ in held],
            [event.action.agent_id for event, *_ in held],
            [event.action.digest for event, *_ in held],
            [body for _, body, *_ in held],
            [requested_at for _, _, requested_at, *_ in held],
            [deadline for *_, deadline, _ in held],
            [trace for *_, trace in held],
        )

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

    async def add_vote(self, connection: Connection, approval_id: str, vote: Vote) -> bool:
        """Write a vote; false if this person voted before."""
        done: str = await connection.execute(
            "INSERT INTO vote (approval_id, voter, vote, digest, channel, comment, voted_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            approval_id,
            vote.voter,
            vote.vote,
            vote.digest,
            vote.channel,
            vote.comment,
            vote.voted_at,
        )
        return done.endswith(" 1")

    async def resolve(self, connection: Connection, approval_id: str, state: ApprovalState, at: datetime) -> None:
        """End an approval, and note that its events are to be published."""
        await connection.execute(
            "UPDATE approval SET state = $2, resolved_at = $3 WHERE approval_id = $1 AND state = 'pending'",
            approval_id,
            state,
            at,
        )
        await connection.execute(
            "INSERT INTO unpublished (approval_id, since) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            approval_id,
            at,
        )

    async def expire(self, at: datetime, limit: int) -> list[str]:
        """End approvals whose deadline has passed; returns their ids. Several replicas take different ones."""
        rows = await self._db.pool.fetch(
            """
            WITH due AS (
                SELECT approval_id FROM approval WHERE state = 'pending' AND deadline <= $1
                ORDER BY deadline LIMIT $2 FOR UPDATE SKIP LOCKED
            ), ended AS (
                UPDATE approval SET state = 'expired', resolved_at = $1
                WHERE approval_id IN (SELECT approval_id FROM due) RETURNING approval_id
            )
            INSERT INTO unpublished (approval_id, since) SELECT approval_id, $1 FROM ended RETURNING approval_id
            """,
            at,
            limit,
        )
        return [row["approval_id"] for row in rows]

    async def cancel(self, request_ids: Sequence[str], at: datetime) -> list[str]:
        """End pending approvals of cancelled actions; returns the ids of all cancelled approvals of these actions."""
        async with self._db.transaction() as connection:
            await connection.execute(
                "UPDATE approval SET state = 'cancelled', resolved_at = $2"
                " WHERE request_id = ANY($1::uuid[]) AND state = 'pending'",
                [UUID(request_id) for request_id in request_ids],
                at,
            )
            rows = await connection.fetch(
                "SELECT approval_id FROM approval WHERE request_id = ANY($1::uuid[]) AND state = 'cancelled'",
                [UUID(request_id) for request_id in request_ids],
            )
        return [row["approval_id"] for row in rows]

    async def leftovers(self, before: datetime) -> list[str]:
        """Approvals whose events are still to be published."""
        rows = await self._db.pool.fetch(
            "SELECT approval_id FROM unpublished WHERE since < $1 ORDER BY since LIMIT 100", before
        )
        return [row["approval_id"] for row in rows]

    async def published(self, approval_ids: Sequence[str]) -> None:
        """Their events are in the stream."""
        await self._db.pool.execute("DELETE FROM unpublished WHERE approval_id = ANY($1)", list(approval_ids))

    async def page(
        self,
        *,
        state: str | None,
        agent_id: str | None,
        request_id: str | None,
        limit: int,
        after: str | None,
    ) -> list[Approval]:
        """Newest first, after the approval ``after``."""
        given: list[Any] = []
        where = ["true"]
        for text, value in (
            ("state = ${}", state),
            ("agent_id = ${}", agent_id),
            ("request_id = ${}", UUID(request_id) if request_id else None),
            (
                "(requested_at, approval_id) <"
                " (SELECT requested_at, approval_id FROM approval WHERE approval_id = ${})",
                after,
            ),
        ):
            if value is not None:
                given.append(value)
                where.append(text.format(len(given)))
        query = (
            f"SELECT {_FIELDS} FROM approval WHERE {' AND '.join(where)}"  # noqa: S608
            f" ORDER BY requested_at DESC, approval_id DESC LIMIT {int(limit)}"
        )
        return await self._with_votes(self._db.pool, await self._db.pool.fetch(query, *given))

    async def pending(self) -> tuple[int, datetime | None]:
        """How many wait, and since when the oldest does."""
        row = await self._db.pool.fetchrow(
            "SELECT count(*) AS n, min(requested_at) AS oldest FROM approval WHERE state = 'pending'"
        )
        return (row["n"], row["oldest"]) if row else (0, None)

    async def _with_votes(
        self, connection: Connection | asyncpg.Pool[asyncpg.Record], rows: list[asyncpg.Record]
    ) -> list[Approval]:
        votes: dict[str, list[Vote]] = {row["approval_id"]: [] for row in rows}
        if any(row["state"] in ("pending", "approved", "rejected") for row in rows):
            found = await connection.fetch(
                "SELECT approval_id, voter, vote, digest, channel, comment, voted_at FROM vote"
                " WHERE approval_id = ANY($1) ORDER BY voted_at, voter",
                list(votes),
            )
            for row in found:
                fields = dict(row)
                votes[fields.pop("approval_id")].append(Vote(**fields))
        return [
            Approval(
                approval_id=row["approval_id"],
                state=row["state"],
                held=ActionHeld.from_bytes(row["held"]),
                requested_at=row["requested_at"],
                deadline=row["deadline"],
                resolved_at=row["resolved_at"],
                traceparent=row["traceparent"],
                votes=tuple(votes[row["approval_id"]]),
            )
            for row in rows
        ]
