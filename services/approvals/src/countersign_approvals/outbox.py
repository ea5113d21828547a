"""Events on their way to the stream, and what was told of an approval.

Votes and timers are no messages that would come again, so an event is a row, signed, written in the transaction of what
it tells of; it is published right after the commit, and by whichever replica finds it left over after a crash or an
outage. Rows of approvals stay: who asks again is told the same bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg

from countersign_chassis import Bus, Connection, Database
from countersign_contracts.approvals import ApprovalEvent
from countersign_contracts.envelope import Envelope, source_of
from countersign_contracts.errors import CountersignError
from countersign_contracts.event import Event
from countersign_contracts.model import now

# Known ones stay as they are: a repeat is the same event.
_ADD = """
INSERT INTO event (event_id, approval_id, subject, stream, type, about, time, keyid, signature, body, traceparent)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                     $9::bytea[], $10::bytea[], $11::text[])
ON CONFLICT (event_id) DO NOTHING
"""
_OF = "SELECT * FROM event WHERE approval_id = ANY($1) ORDER BY seq"
_RESOLVED = "SELECT * FROM event WHERE approval_id = ANY($1) AND type LIKE '%.resolved.v1' ORDER BY seq"
_KEPT = "SELECT DISTINCT approval_id FROM event WHERE approval_id = ANY($1) AND type LIKE '%.requested.v1'"
_LEFT = "SELECT * FROM event WHERE published_at IS NULL AND written_at < $1 ORDER BY seq LIMIT 200"
_PUBLISHED = "UPDATE event SET published_at = $2 WHERE event_id = ANY($1) AND published_at IS NULL"


@dataclass(frozen=True, slots=True)
class Told:
    """A signed event and where it goes."""

    subject: str
    stream: str
    approval_id: str | None
    envelope: Envelope


class Outbox:
    """Writes events beside what they tell of, and publishes them."""

    def __init__(self, db: Database, bus: Bus, log: Any) -> None:
        self._db = db
        self._bus = bus
        self._log = log

    async def add(
        self, connection: Connection, events: Sequence[tuple[Event, str | None]], *, sealed: Sequence[Told] = ()
    ) -> list[Told]:
        """Keep events, each with its trace, in the caller's transaction; hand the result to :meth:`send` after it."""
        told = [*sealed, *(self.seal(event, trace) for event, trace in events)]
        if told:
            await connection.execute(
                _ADD,
                [each.envelope.id for each in told],
                [each.approval_id for each in told],
                [each.subject for each in told],
                [each.stream for each in told],
                [each.envelope.type for each in told],
                [each.envelope.subject for each in told],
                [each.envelope.time for each in told],
                [each.envelope.keyid for each in told],
                [each.envelope.signature for each in told],
                [each.envelope.body for each in told],
                [each.envelope.traceparent for each in told],
            )
        return told

    def seal(self, event: Event, trace: str | None) -> Told:
        """An event as it will be published."""
        about = event.approval_id if isinstance(event, ApprovalEvent) else None
        return Told(event.nats_subject(), event.spec.stream, about, self._bus.seal(event, trace))

    async def send(self, told: Sequence[Told]) -> None:
        """Publish what was committed; what the bus does not take now stays and is published later."""
        try:
            await self._send(told)
        except CountersignError as error:
            self._log.warning("events not published yet", error=error.detail, events=len(told))

    async def without_events(self, approval_ids: Sequence[str]) -> list[str]:
        """Those of the approvals of which no event is kept."""
        kept = {row["approval_id"] for row in await self._db.pool.fetch(_KEPT, list(approval_ids))}
        return [approval_id for approval_id in approval_ids if approval_id not in kept]

    async def repeat(self, approval_ids: Sequence[str]) -> None:
        """Publish everything told of these approvals once more: what the stream still knows, it drops."""
        await self._send([_told(row) for row in await self._db.pool.fetch(_OF, list(approval_ids))])

    async def resolved_again(self, asked: dict[str, int]) -> None:
        """Say again how approvals ended, past the stream's deduplication; the number tells one repeat from another."""
        for row in await self._db.pool.fetch(_RESOLVED, list(asked)):
            told = _told(row)
            message = (told.subject, told.stream, told.envelope)
            await self._bus.publish_sealed([message], attempt=str(asked[row["approval_id"]]))

    async def publish_leftovers(self, poll_s: float) -> None:
        """Publish what a crash or a lost bus left unpublished, for ever."""
        while True:
            rows = await self._db.pool.fetch(_LEFT, now() - timedelta(seconds=poll_s))
            if rows:
                await self._send([_told(row) for row in rows])
            if len(rows) < 200:
                await asyncio.sleep(poll_s)

    async def _send(self, told: Sequence[Told]) -> None:
        if told:
            await self._bus.publish_sealed([(each.subject, each.stream, each.envelope) for each in told])
            await self._db.pool.execute(_PUBLISHED, [each.envelope.id for each in told], now())


def _told(row: asyncpg.Record) -> Told:
    envelope = Envelope(
        id=row["event_id"],
        type=row["type"],
        source=source_of("approvals"),
        subject=row["about"],
        time=row["time"],
        keyid=row["keyid"],
        signature=row["signature"],
        body=row["body"],
        traceparent=row["traceparent"],
    )
    return Told(row["subject"], row["stream"], row["approval_id"], envelope)
