"""The Slack service's SQL: which message in which channel is about which approval, and what is still to be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
import orjson

from countersign_chassis import Connection, Database

from .rendering import Outcome


@dataclass(frozen=True, slots=True)
class Look:
    """The right to render an approval: with the highest number counts what is rendered."""

    number: int
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class Card:
    """A message that is to be sent, or to be updated."""

    approval_id: str
    channel: str
    ts: str | None
    look: int
    content: str
    pending: bool
    tries: int


@dataclass(frozen=True, slots=True)
class Note:
    """A line that is to be said in the thread of a message."""

    approval_id: str
    channel: str
    event_id: str
    thread_ts: str
    text: str
    tries: int


class Store:
    """Approvals, cards, notes and lanes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    # --- from events to rows ----------------------------------------------------------------------

    async def look(self, approval_id: str, at: datetime, outcome: Outcome | None = None) -> Look | None:
        """Ask for a look at an approval that is shown, else none; an ``outcome`` of its action is kept."""
        row = await self._db.pool.fetchrow(
            "UPDATE approval SET looks = looks + 1, seen_at = $2, outcome = coalesce($3::text::jsonb, outcome)"
            " WHERE approval_id = $1"
            " RETURNING looks, outcome ->> 'text' AS text, (outcome ->> 'well')::boolean AS well",
            approval_id,
            at,
            None if outcome is None else orjson.dumps({"text": outcome.text, "well": outcome.well}).decode(),
        )
        return None if row is None else _look(row)

    async def first_look(self, approval_id: str, request_id: str, at: datetime) -> Look:
        """Ask for a look at an approval that is to be shown from now on."""
        row = await self._db.pool.fetchrow(
            "INSERT INTO approval AS a (approval_id, request_id, seen_at) VALUES ($1, $2, $3)"
            " ON CONFLICT (approval_id) DO UPDATE SET looks = a.looks + 1, seen_at = $3"
            " RETURNING looks, outcome ->> 'text' AS text, (outcome ->> 'well')::boolean AS well",
            approval_id,
            request_id,
            at,
        )
        return _look(row) if row is not None else Look(0, None)

    async def newest(self, alert_id: str, revision: int, at: datetime) -> bool:
        """Keep that an alert has this revision; false if a later one came before. Alerts lie among the approvals."""
        row = await self._db.pool.fetchrow(
            "INSERT INTO approval AS a (approval_id, request_id, looks, seen_at) VALUES ($1, $1, $2, $3)"
            " ON CONFLICT (approval_id) DO UPDATE SET looks = greatest(a.looks, excluded.looks), seen_at = $3"
            " RETURNING looks",
            alert_id,
            revision,
            at,
        )
        return row is not None and row["looks"] == revision

    async def approvals_of(self, request_ids: Sequence[str]) -> dict[str, str]:
        """The approvals of actions that were shown, by request id."""
        rows = await self._db.pool.fetch(
            "SELECT request_id, approval_id FROM approval WHERE request_id = ANY($1)", list(request_ids)
        )
        return {row["request_id"]: row["approval_id"] for row in rows}

    async def show(
        self,
        approval_id: str,
        look: Look,
        content: str,
        sha256: str,
        *,
        pending: bool,
        channels: Sequence[str],
        notes: Sequence[tuple[str, str]],
        at: datetime,
    ) -> None:
        """Have every message about an approval show ``content``, and its thread say ``notes`` (event id, text).

        Only what is pending gets new messages, in ``channels``. An older look, the same content, and a note of an
        event that was there before change nothing.
        """
        async with self._db.transaction() as connection:
            if pending:
                await self._add(connection, approval_id, channels, at)
            await connection.execute(
                """
                UPDATE card SET look = $2, pending = $5, tries = 0,
                    wanted_at = CASE WHEN content IS NULL THEN $6 ELSE wanted_at END,
                    content = CASE WHEN sent_sha256 IS NOT DISTINCT FROM $4 THEN NULL ELSE $3 END
                WHERE approval_id = $1 AND look < $2
                """,
                approval_id,
                look.number,
                content,
                sha256,
                pending,
                at,
            )
            for event_id, text in notes:
                await connection.execute(
                    "INSERT INTO note (approval_id, channel, event_id, text, wanted_at)"
                    " SELECT approval_id, channel, $2, $3, $4 FROM card WHERE approval_id = $1 ON CONFLICT DO NOTHING",
                    approval_id,
                    event_id,
                    text,
                    at,
                )

    async def _add(self, connection: Connection, approval_id: str, channels: Sequence[str], at: datetime) -> None:
        await connection.execute(
            "INSERT INTO card (approval_id, channel, wanted_at) SELECT $1, unnest($2::text[]), $3"
            " ON CONFLICT DO NOTHING",
            approval_id,
            list(channels),
            at,
        )
        await connection.execute(
            "INSERT INTO lane (channel, not_before, leased_until) SELECT unnest($1::text[]), $2, $2"
            " ON CONFLICT DO NOTHING",
            sorted(channels),
            at,
        )

    # --- from rows to Slack -----------------------------------------------------------------------

    async def take_lane(self, at: datetime, lease: str, lease_s: float) -> str | None:
        """A channel with something to send that nobody works; held for ``lease_s``."""
        found: str | None = await self._db.pool.fetchval(
            """
            WITH due AS (
                SELECT channel FROM lane l WHERE not_before <= $1 AND leased_until <= $1 AND (
                    EXISTS (SELECT 1 FROM card c WHERE c.channel = l.channel AND c.content IS NOT NULL)
                    OR EXISTS (SELECT 1 FROM note n JOIN card c USING (approval_id, channel)
                               WHERE n.channel = l.channel AND n.text IS NOT NULL AND c.ts IS NOT NULL))
                ORDER BY not_before LIMIT 1 FOR UPDATE SKIP LOCKED
            )
            UPDATE lane SET lease = $2, leased_until = $3 WHERE channel IN (SELECT channel FROM due) RETURNING channel
            """,
            at,
            lease,
            at + timedelta(seconds=lease_s),
        )
        return found

    async def next_in(self, channel: str) -> Card | Note | None:
        """What is to be sent next in a channel: what waits longest, a message before its thread."""
        card = await self._db.pool.fetchrow(
            "SELECT approval_id, channel, ts, look, content, pending, tries, wanted_at FROM card"
            " WHERE channel = $1 AND content IS NOT NULL ORDER BY wanted_at, approval_id LIMIT 1",
            channel,
        )
        note = await self._db.pool.fetchrow(
            "SELECT n.approval_id, n.channel, n.event_id, c.ts AS thread_ts, n.text, n.tries, n.wanted_at FROM note n"
            " JOIN card c USING (approval_id, channel)"
            " WHERE n.channel = $1 AND n.text IS NOT NULL AND c.ts IS NOT NULL ORDER BY n.note_id LIMIT 1",
            channel,
        )
        if card is not None and (note is None or card["wanted_at"] <= note["wanted_at"]):
            return Card(**{name: value for name, value in card.items() if name != "wanted_at"})
        return None if note is None else Note(**{name: value for name, value in note.items() if name != "wanted_at"})

    async def sent(self, card: Card, ts: str, sha256: str) -> bool:
        """Slack shows the card's content; false if it has another message about the approval already."""
        done: str = await self._db.pool.execute(
            """
            UPDATE card SET ts = $3, sent_sha256 = $5, tries = 0,
                content = CASE WHEN look = $4 THEN NULL ELSE content END
            WHERE approval_id = $1 AND channel = $2 AND ts IS NOT DISTINCT FROM $6
            """,
            card.approval_id,
            card.channel,
            ts,
            card.look,
            sha256,
            card.ts,
        )
        return done.endswith(" 1")

    async def said(self, note: Note) -> None:
        """The thread says it, or never will."""
        await self._db.pool.execute(
            "UPDATE note SET text = NULL WHERE approval_id = $1 AND channel = $2 AND event_id = $3",
            note.approval_id,
            note.channel,
            note.event_id,
        )

    async def drop(self, card: Card) -> None:
        """Nothing is sent about it: it ended before anybody was asked here, or Slack does not take it."""
        await self._db.pool.execute(
            "UPDATE card SET content = NULL WHERE approval_id = $1 AND channel = $2 AND look = $3",
            card.approval_id,
            card.channel,
            card.look,
        )

    async def lost(self, card: Card) -> None:
        """Somebody deleted the message: what is pending gets a new one."""
        await self._db.pool.execute(
            "UPDATE card SET ts = NULL, sent_sha256 = NULL WHERE approval_id = $1 AND channel = $2 AND ts = $3",
            card.approval_id,
            card.channel,
            card.ts,
        )

    async def failed(self, item: Card | Note) -> int:
        """Count a failure that is the item's own, not Slack's; returns how many there are."""
        if isinstance(item, Card):
            tries: int = await self._db.pool.fetchval(
                "UPDATE card SET tries = tries + 1 WHERE approval_id = $1 AND channel = $2 RETURNING tries",
                item.approval_id,
                item.channel,
            )
        else:
            tries = await self._db.pool.fetchval(
                "UPDATE note SET tries = tries + 1 WHERE approval_id = $1 AND channel = $2 AND event_id = $3"
                " RETURNING tries",
                item.approval_id,
                item.channel,
                item.event_id,
            )
        return tries

    async def release(self, channel: str, lease: str, not_before: datetime, *, well: bool) -> None:
        """Give a channel back: nobody sends in it before then."""
        await self._db.pool.execute(
            "UPDATE lane SET leased_until = $3, not_before = $3, failures = CASE WHEN $4 THEN 0 ELSE failures + 1 END"
            " WHERE channel = $1 AND lease = $2",
            channel,
            lease,
            not_before,
            well,
        )

    async def failures(self, channel: str) -> int:
        """How often in a row sending in the channel failed."""
        found: int | None = await self._db.pool.fetchval("SELECT failures FROM lane WHERE channel = $1", channel)
        return found or 0

    async def message_ts(self, approval_id: str, channel: str) -> str | None:
        """The message about an approval in a channel."""
        found: str | None = await self._db.pool.fetchval(
            "SELECT ts FROM card WHERE approval_id = $1 AND channel = $2", approval_id, channel
        )
        return found

    async def waiting(self) -> tuple[int, datetime | None]:
        """How much is still to be sent, and since when the oldest of it."""
        row = await self._db.pool.fetchrow(
            """
            SELECT count(*) AS n, min(wanted_at) AS oldest FROM (
                SELECT wanted_at FROM card WHERE content IS NOT NULL
                UNION ALL
                SELECT n.wanted_at FROM note n JOIN card c USING (approval_id, channel)
                WHERE n.text IS NOT NULL AND c.ts IS NOT NULL
            ) AS w
            """
        )
        return (row["n"], row["oldest"]) if row else (0, None)

    async def forget(self, before: datetime) -> None:
        """Forget approvals that have ended and of which nothing was heard since."""
        await self._db.pool.execute(
            "DELETE FROM approval a WHERE seen_at < $1"
            " AND NOT EXISTS (SELECT 1 FROM card c WHERE c.approval_id = a.approval_id AND c.pending)",
            before,
        )


def _look(row: asyncpg.Record) -> Look:
    return Look(row["looks"], None if row["text"] is None else Outcome(row["text"], row["well"]))
