"""The registry's SQL that reads what agents told of their work: pages newest first, and sums.

A page goes on after the last record's place in the order (time, batch, place), which never changes: what comes in
between moves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from countersign_chassis import Database
from countersign_contracts.errors import CountersignError
from countersign_contracts.telemetry import LEVELS, MOST_AHEAD, LogLevel

from .telemetry_store import REPORT_COLUMNS

#: A search looks at so many records for one page, at most.
MOST_LOOKED_AT = 20_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
BEGINNING = datetime(1, 1, 2, tzinfo=UTC)
END = datetime(9999, 12, 30, tzinfo=UTC)

# $2 to before $3, $4: the place to go on after. No record is ahead of when it came by more than clocks may be, which
# leaves out whole partitions. The level is a literal where an index has it; what is looked for stands outside the
# bound, so that a search that finds nothing ends.
_LOGS = """
SELECT * FROM (
    SELECT at, received_at, batch, place, severity, text, logger, fields, request_id FROM agent_log
    WHERE agent_id = $1 AND at >= $2 AND at < $3 AND received_at >= $4 AND (at, batch, place) < ($5, $6, $7) {level}
    ORDER BY at DESC, batch DESC, place DESC LIMIT {most}
) newest WHERE severity >= $8 AND ($9::text IS NULL OR text ILIKE $9) LIMIT $10
"""
_LOOKED_AT = """
SELECT at, batch, place FROM agent_log
WHERE agent_id = $1 AND at >= $2 AND at < $3 AND received_at >= $4 AND (at, batch, place) < ($5, $6, $7) {level}
ORDER BY at DESC, batch DESC, place DESC OFFSET {last} LIMIT 1
"""
_ERRORS = """
SELECT count(*) FROM agent_log WHERE agent_id = $1 AND at >= $2 AND received_at >= $3 AND severity >= 3
"""

_REPORTS = f"""
SELECT {", ".join(REPORT_COLUMNS)}, own, received_at FROM agent_metrics
WHERE agent_id = $1 AND at >= $2 AND at < $3 AND received_at >= $4 AND (at, batch) < ($5, $6)
ORDER BY at DESC, batch DESC LIMIT $7
"""  # noqa: S608
_SUMMARY = """
SELECT count(*) AS reports, coalesce(sum(interval_s), 0) AS covered_s,
       coalesce(sum(events_succeeded), 0) AS events_succeeded,
       coalesce(sum(events_failed), 0) AS events_failed,
       coalesce(sum(processing_s), 0) AS processing_s,
       sum(cpu_s) AS cpu_s, sum(interval_s) FILTER (WHERE cpu_s IS NOT NULL) AS cpu_covered_s,
       (array_agg(memory_bytes ORDER BY at DESC) FILTER (WHERE memory_bytes IS NOT NULL))[1] AS memory_bytes,
       sum(disk_read_bytes) AS disk_read_bytes,
       sum(disk_written_bytes) AS disk_written_bytes,
       sum(network_received_bytes) AS network_received_bytes,
       sum(network_sent_bytes) AS network_sent_bytes
FROM agent_metrics WHERE agent_id = $1 AND at >= $2 AND at < $3 AND received_at >= $4
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended. ``place`` is within the batch; a report has none."""

    at: datetime
    batch: str
    place: int = 0

    def __str__(self) -> str:
        return f"{(self.at - _EPOCH) // _US}.{self.place}.{self.batch}"


#: Before everything.
NEWEST = Place(END, "")


def place_of(cursor: str | None) -> Place:
    """The place in a cursor. Raises `invalid` for what is none."""
    if cursor is None:
        return NEWEST
    if found := re.fullmatch(r"(-?\d{1,17})\.(\d{1,5})\.([A-Za-z0-9_-]{8,64})", cursor, re.ASCII):
        try:
            return Place(_EPOCH + int(found[1]) * _US, found[3], int(found[2]))
        except OverflowError:
            pass
    raise CountersignError("`before` is not the `next` of a page before", code="invalid")


def pattern_of(text: str) -> str:
    """What finds ``text`` anywhere, by ILIKE: its own metacharacters mean themselves."""
    return "%" + re.sub(r"([\\%_])", r"\\\1", text) + "%"


@dataclass(frozen=True, slots=True)
class Sought:
    """What is looked for in one agent's log."""

    agent_id: str
    level: LogLevel | None
    text: str | None
    since: datetime
    until: datetime


class TelemetryPages:
    """Reads."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def logs(self, sought: Sought, before: Place, limit: int) -> tuple[Sequence[asyncpg.Record], Place | None]:
        """Up to ``limit`` records; and, where the search ended before that and there is more, the place it got to."""
        severity = 0 if sought.level is None else LEVELS.index(sought.level)
        level = f"AND severity >= {severity}" if severity >= LEVELS.index("warning") else ""
        within = (sought.agent_id, *_within(sought.since, sought.until), before.at, before.batch, before.place)
        pattern = None if sought.text is None else pattern_of(sought.text)
        query = _LOGS.format(level=level, most=MOST_LOOKED_AT)
        rows = await self._db.pool.fetch(query, *within, severity, pattern, limit)
        if len(rows) == limit or (pattern is None and sought.level != "info"):
            return rows, None
        last = await self._db.pool.fetchrow(_LOOKED_AT.format(level=level, last=MOST_LOOKED_AT - 1), *within)
        return rows, None if last is None else Place(last["at"], last["batch"], last["place"])

    async def errors(self, agent_id: str, since: datetime) -> int:
        """How many records of level error and above there are since then."""
        count: int = await self._db.pool.fetchval(_ERRORS, agent_id, since, since - MOST_AHEAD)
        return count

    async def reports(
        self, agent_id: str, since: datetime, until: datetime, before: Place, limit: int
    ) -> Sequence[asyncpg.Record]:
        """Up to ``limit`` reports, newest first."""
        return await self._db.pool.fetch(_REPORTS, agent_id, *_within(since, until), before.at, before.batch, limit)

    async def summary(self, agent_id: str, since: datetime, until: datetime) -> asyncpg.Record | None:
        """Sums over the agent's reports."""
        return await self._db.pool.fetchrow(_SUMMARY, agent_id, *_within(since, until))


def _within(since: datetime, until: datetime) -> tuple[datetime, datetime, datetime]:
    """The range, and when the first of it can have come."""
    since = max(since, BEGINNING)
    return since, min(until, END), since - MOST_AHEAD
