"""Events of committed changes on their way to the stream.

A command has no unacknowledged message to fall back on, as a consumed event has; so its events are rows, written in the
transaction of the change, and published from there: at once, and after a crash by whoever starts next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg

from countersign_chassis import Bus, Connection, Failpoints
from countersign_chassis.connection import PublishRefused
from countersign_contracts.envelope import Envelope
from countersign_contracts.event import Event
from countersign_contracts.model import now

from .store import Lock, Store

_ADD = """
INSERT INTO outbox (subject, stream, event_id, type, source, about, time, keyid, signature, body)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
_NEXT = "SELECT * FROM outbox WHERE published_at IS NULL ORDER BY seq LIMIT $1"
# Not waited for until it is on disk, which whoever commits a change would wait for too: what a crash forgets is
# published once more, and the stream drops it.
_PUBLISHED = """
WITH unhurried AS (SELECT set_config('synchronous_commit', 'off', true))
UPDATE outbox SET published_at = $2 FROM unhurried WHERE seq = ANY($1::bigint[])
"""
_AGAIN = "UPDATE outbox SET published_at = NULL WHERE published_at IS NOT NULL"
_FORGET = "DELETE FROM outbox WHERE published_at < $1"

_BATCH = 256
#: How long events are kept that the stream has, to be sent again should nats-server be restarted: the stream drops
#: those that it still knows by their ids.
_KEEP = timedelta(seconds=60)
#: How long another registry's leftovers, and events that the stream refused, wait for the next look.
_IDLE_S = 5.0


class Outbox:
    """Writes events beside what they tell of, and publishes them in that order."""

    def __init__(self, store: Store, bus: Bus, failpoints: Failpoints, log: Any) -> None:
        self._store = store
        self._bus = bus
        self._failpoints = failpoints
        self._log = log
        self._added = asyncio.Event()
        self._send_again = False

    async def add(self, connection: Connection, events: Sequence[Event]) -> None:
        """Keep ``events``, signed, in the caller's transaction; :meth:`wake` after it was committed."""
        rows = []
        for event in events:
            sealed = self._bus.seal(event)
            rows.append(
                (
                    event.nats_subject(),
                    event.spec.stream,
                    sealed.id,
                    sealed.type,
                    sealed.source,
                    sealed.subject,
                    sealed.time,
                    sealed.keyid,
                    sealed.signature,
                    sealed.body,
                )
            )
        await connection.executemany(_ADD, rows)

    def wake(self) -> None:
        """There is something to publish."""
        self._added.set()

    async def restarted(self) -> None:
        """The connection to nats-server came back, maybe to one that forgot what it took last."""
        self._send_again = True
        self._added.set()

    async def run(self) -> None:
        """Publish what there is, for ever; raises :class:`Unavailable` when the stream does not answer."""
        while True:
            self._added.clear()
            if await self.publish() == _BATCH:
                continue
            try:
                async with asyncio.timeout(_IDLE_S):
                    await self._added.wait()
            except TimeoutError:
                continue

    async def publish(self) -> int:
        """Publish a batch; returns how many the stream has taken."""
        async with self._store.alone(Lock.OUTBOX) as connection:
            if self._send_again:
                await connection.execute(_AGAIN)
                self._send_again = False
            rows = await connection.fetch(_NEXT, _BATCH)
            if not rows:
                await connection.execute(_FORGET, now() - _KEEP)
                return 0
            taken = await self._send(rows)
            await self._failpoints.hit("registry.after_publish_before_mark")
            await connection.execute(_PUBLISHED, taken, now())
        return len(taken)

    async def _send(self, rows: Sequence[asyncpg.Record]) -> list[int]:
        messages = [(row["subject"], row["stream"], _envelope(row)) for row in rows]
        try:
            await self._bus.publish_sealed(messages)
        except PublishRefused:
            return [row["seq"] for row, message in zip(rows, messages, strict=True) if await self._send_alone(message)]
        return [row["seq"] for row in rows]

    async def _send_alone(self, message: tuple[str, str, Envelope]) -> bool:
        """One event, so that a refused one holds up no other; it stays where it is and is tried again."""
        try:
            await self._bus.publish_sealed([message])
        except PublishRefused as error:
            self._log.error("the stream refuses an event", event_id=message[2].id, reason=error.detail)
            return False
        return True


def _envelope(row: asyncpg.Record) -> Envelope:
    return Envelope(
        id=row["event_id"],
        type=row["type"],
        source=row["source"],
        subject=row["about"],
        time=row["time"],
        keyid=row["keyid"],
        signature=row["signature"],
        body=row["body"],
    )
