"""The gateway's SQL about actions that ended, and whether their ends are known to be on record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from countersign_chassis import Database


@dataclass(frozen=True, slots=True)
class Ended:
    """An action that ended: by which event, and when its row was written."""

    request_id: str
    event_id: str
    at: datetime


class EndedRows:
    """The SQL of :mod:`.recording`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def ended_until(self, until: datetime, count: int) -> list[Ended]:
        """What ended since what is known to be on record, oldest first: ``count``, and what ended with the last."""
        rows = await self._db.pool.fetch(
            "SELECT request_id, end_event, updated_at FROM action"
            " WHERE updated_at > (SELECT until FROM on_record) AND updated_at <= $1 AND end_event IS NOT NULL"
            " ORDER BY updated_at FETCH FIRST ($2::int) ROWS WITH TIES",
            until,
            count,
        )
        return [_ended(row) for row in rows]

    async def note_recorded(self, missing: Sequence[str], until: datetime) -> None:
        """All that ended until then is on record, but ``missing``: these are to be driven again."""
        async with self._db.transaction() as connection:
            await connection.execute(
                "UPDATE action SET drive_at = now() WHERE request_id = ANY($1::uuid[]) AND drive_at IS NULL",
                [UUID(request_id) for request_id in missing],
            )
            await connection.execute("UPDATE on_record SET until = greatest(until, $1)", until)

    async def unproven(self, count: int) -> list[Ended]:
        """What ended and is driven again because its end was not on record."""
        rows = await self._db.pool.fetch(
            "SELECT request_id, end_event, updated_at FROM action"
            " WHERE drive_at IS NOT NULL AND end_event IS NOT NULL LIMIT $1",
            count,
        )
        return [_ended(row) for row in rows]

    async def prove(self, request_ids: Sequence[str]) -> None:
        """Their ends are on record now: they are driven no more."""
        if request_ids:
            await self._db.pool.execute(
                "UPDATE action SET drive_at = NULL WHERE request_id = ANY($1::uuid[]) AND end_event IS NOT NULL",
                [UUID(request_id) for request_id in request_ids],
            )


def _ended(row: asyncpg.Record) -> Ended:
    return Ended(str(row["request_id"]), row["end_event"], row["updated_at"])
