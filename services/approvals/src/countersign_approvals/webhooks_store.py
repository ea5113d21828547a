"""The SQL of deliveries to webhooks. Several replicas share them: what one is posting, the others leave alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from countersign_chassis import Database

from .webhooks_schedule import Answer, Verdict

_ADD = """
INSERT INTO webhook_delivery (webhook, event_id, type, approval_id, alert_id, body, created_at, give_up_at, next_at)
SELECT w, e, t, p, a, b, $7, $8, $7
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[]) d(w, e, t, p, a, b)
ON CONFLICT (webhook, event_id) DO NOTHING
"""
_CLAIM = """
WITH due AS (
    SELECT d.webhook, d.event_id FROM unnest($2::text[], $3::int[]) wanted(name, free)
    CROSS JOIN LATERAL (
        SELECT webhook, event_id FROM webhook_delivery
        WHERE webhook = wanted.name AND state = 'pending' AND next_at <= $1
        ORDER BY next_at LIMIT wanted.free FOR UPDATE SKIP LOCKED
    ) d
)
UPDATE webhook_delivery t SET tries = t.tries + 1, next_at = $4 FROM due
WHERE t.webhook = due.webhook AND t.event_id = due.event_id
RETURNING t.webhook, t.event_id, t.body, t.tries, t.give_up_at
"""
# a late result does not undo what was tried again meanwhile, but that the receiver has it always counts
_SETTLE = """
UPDATE webhook_delivery
SET state = $4, next_at = coalesce($5, next_at), last_status = $6, last_error = $7,
    ended_at = CASE WHEN $4 = 'pending' THEN NULL ELSE $8::timestamptz END
WHERE webhook = $1 AND event_id = $2 AND state = 'pending' AND (tries = $3 OR $4 = 'delivered')
"""
_GIVE_UP = """
UPDATE webhook_delivery SET state = 'given_up', ended_at = $1,
    last_error = coalesce(last_error, 'its day was over before it could be posted')
WHERE state = 'pending' AND next_at <= $1 AND give_up_at <= $1 RETURNING webhook
"""
_FORGET = "DELETE FROM webhook_delivery WHERE ended_at < $1 AND (state = 'delivered' OR ended_at < $2)"
_WAITING = """
SELECT webhook, count(*) AS pending, min(created_at) AS oldest FROM webhook_delivery WHERE state = 'pending'
GROUP BY webhook
"""
_GIVEN_UP = "SELECT webhook, count(*) AS many FROM webhook_delivery WHERE state = 'given_up' GROUP BY webhook"
# ordered by a unique key, so that a page goes on where the last one ended
_PAGE = """
SELECT webhook, event_id, type, approval_id, alert_id, state, tries, created_at, next_at, ended_at,
    last_status, last_error
FROM webhook_delivery
WHERE ($1::text IS NULL OR webhook = $1) AND ($2::text IS NULL OR state = $2)
    AND ($3::timestamptz IS NULL OR (created_at, webhook, event_id) < ($3, $4, $5))
ORDER BY created_at DESC, webhook DESC, event_id DESC LIMIT $6
"""
_REPEAT = """
UPDATE webhook_delivery SET state = 'pending', next_at = $3, give_up_at = $4, ended_at = NULL, tries = 0
WHERE state = 'given_up' AND webhook = $1 AND ($2::text IS NULL OR event_id = $2) RETURNING event_id
"""
_KEEP_DELIVERED = timedelta(days=8)  # longer than the stream keeps the event, which may come again
_KEEP_GIVEN_UP = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """An event for a webhook, about an approval or an alert."""

    webhook: str
    event_id: str
    type: str
    approval_id: str | None
    alert_id: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this replica is to try now, for the ``tries``-th time."""

    webhook: str
    event_id: str
    body: bytes
    tries: int
    give_up_at: datetime


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of deliveries ends."""

    created_at: datetime
    webhook: str
    event_id: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a webhook has not been told yet."""

    pending: int
    oldest: datetime


class WebhookStore:
    """The queries."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, deliveries: Sequence[NewDelivery], at: datetime, give_up_at: datetime) -> None:
        """Keep what is to be posted; what is there already stays as it is."""
        columns = [[getattr(d, name) for d in deliveries] for name in NewDelivery.__dataclass_fields__]
        await self._db.pool.execute(_ADD, *columns, at, give_up_at)

    async def claim(self, free: Mapping[str, int], at: datetime, until: datetime) -> list[Claimed]:
        """Deliveries that are due, of each webhook as many as are ``free``; theirs again ``until`` if this one dies."""
        rows = await self._db.pool.fetch(_CLAIM, at, list(free), list(free.values()), until)
        return [Claimed(**dict(row)) for row in rows]

    async def settle(self, claimed: Claimed, answer: Answer, verdict: Verdict, at: datetime) -> None:
        """What became of a try."""
        await self._db.pool.execute(
            _SETTLE,
            claimed.webhook,
            claimed.event_id,
            claimed.tries,
            verdict.state,
            verdict.next_at,
            answer.status,
            answer.error,
            at,
        )

    async def give_up(self, at: datetime) -> list[str]:
        """Give up what is too old, also of webhooks that are disabled; returns their webhooks, one for each."""
        return [row["webhook"] for row in await self._db.pool.fetch(_GIVE_UP, at)]

    async def forget(self, at: datetime) -> None:
        """Delete what ended long ago."""
        await self._db.pool.execute(_FORGET, at - _KEEP_DELIVERED, at - _KEEP_GIVEN_UP)

    async def waiting(self) -> dict[str, Waiting]:
        """What is pending, by webhook."""
        rows = await self._db.pool.fetch(_WAITING)
        return {row["webhook"]: Waiting(row["pending"], row["oldest"]) for row in rows}

    async def given_up(self) -> dict[str, int]:
        """How many were given up, by webhook."""
        return {row["webhook"]: row["many"] for row in await self._db.pool.fetch(_GIVEN_UP)}

    async def page(
        self, webhook: str | None, state: str | None, after: Place | None, limit: int
    ) -> list[asyncpg.Record]:
        """Deliveries, newest first."""
        place = (None, None, None) if after is None else (after.created_at, after.webhook, after.event_id)
        return list(await self._db.pool.fetch(_PAGE, webhook, state, *place, limit))

    async def repeat(self, webhook: str, event_id: str | None, at: datetime, give_up_at: datetime) -> int:
        """Try again what was given up; returns how many."""
        return len(await self._db.pool.fetch(_REPEAT, webhook, event_id, at, give_up_at))
