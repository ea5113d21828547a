"""The days by which telemetry is kept: a partition of each, made ahead, and dropped whole when it is too old.

One registry does it at a time. Nothing hangs on the loop: whoever has something of a day that has no partition yet
makes it then, as after a sleep of weeks.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import asyncpg

from countersign_contracts.model import now

from .store import Lock, Store
from .telemetry_store import TelemetryStore

#: Days ahead of today, and behind it for what waited over midnight.
AHEAD = 3
BEHIND = 1
#: Longer than the stream keeps a message, so that whatever it delivers again is known.
REPEATS_KNOWN = timedelta(hours=2)
_EVERY_S = 60.0
_SOON_S = 0.5
_FORGET_AT_ONCE = 20_000
#: So long a partition waits for its table; readers and writers that come behind it wait as long.
_PATIENCE_MS = 2000

_CHILDREN = """
SELECT child.relname AS name FROM pg_inherits
JOIN pg_class child ON child.oid = inhrelid JOIN pg_class parent ON parent.oid = inhparent
WHERE parent.relname = $1 AND parent.relnamespace = current_schema()::regnamespace
"""
# Made aside and attached: neither reading nor writing waits for that.
_MAKE = """
CREATE TABLE "{name}" (LIKE "{table}" INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
ALTER TABLE "{table}" ATTACH PARTITION "{name}" FOR VALUES FROM ('{since}') TO ('{until}');
"""


def partition_name(table: str, day: date) -> str:
    """The partition of a day."""
    return f"{table}_{day:%Y%m%d}"


def day_of(table: str, partition: str) -> date | None:
    """The day of a partition; None for what is none of ours."""
    found = re.fullmatch(rf"{re.escape(table)}_(\d{{4}})(\d\d)(\d\d)", partition)
    try:
        return date(*map(int, found.groups())) if found else None
    except ValueError:
        return None


def wanted(today: date) -> set[date]:
    """The days that are to have a partition now."""
    return {today + timedelta(days=n) for n in range(-BEHIND, AHEAD + 1)}


def too_old(days: Iterable[date], keep_days: int, at: datetime) -> list[date]:
    """Those of ``days`` whose youngest record is older than ``keep_days``, the oldest first."""
    return sorted(day for day in days if _midnight(day) + timedelta(days=1 + keep_days) <= at)


class TelemetryDays:
    """``keep_days``: for each table, how many."""

    def __init__(self, store: Store, telemetry: TelemetryStore, keep_days: Mapping[str, int], log: Any) -> None:
        self._store = store
        self._telemetry = telemetry
        self._keep_days = keep_days
        self._log = log
        self._known: set[date] = set()

    async def start(self) -> None:
        """Make what is missing."""
        await self.ensure(wanted(now().date()))

    async def run(self) -> None:
        """Make ahead, and drop what is too old, for ever."""
        while True:
            at = now()
            await self.ensure(wanted(at.date()))
            await self.drop(at)
            forgotten = await self._telemetry.forget(at - REPEATS_KNOWN, _FORGET_AT_ONCE)
            await asyncio.sleep(_EVERY_S if forgotten < _FORGET_AT_ONCE else _SOON_S)

    async def ensure(self, days: Collection[date]) -> None:
        """Make the partitions of these days that are not there."""
        if self._known.issuperset(days):
            return
        async with self._store.transaction() as connection:
            await self._store.within(connection, Lock.TELEMETRY)
            for table in self._keep_days:
                there = {row["name"] for row in await connection.fetch(_CHILDREN, table)}
                for day in sorted(days):
                    name = partition_name(table, day)
                    if name not in there:
                        since, until = _midnight(day).isoformat(), _midnight(day + timedelta(days=1)).isoformat()
                        await connection.execute(_MAKE.format(table=table, name=name, since=since, until=until))
        self._known |= set(days)

    def doubt(self) -> None:
        """Somebody else may have dropped partitions: look again."""
        self._known.clear()

    async def drop(self, at: datetime) -> None:
        """Drop what is too old by our clock and by PostgreSQL's: one that is wrong may cost nothing."""
        for table, keep_days in self._keep_days.items():
            async with self._store.transaction() as connection:
                await self._store.within(connection, Lock.TELEMETRY)
                theirs: datetime = await connection.fetchval("SELECT now()")
                there = {row["name"] for row in await connection.fetch(_CHILDREN, table)}
                days = [day for name in there if (day := day_of(table, name)) is not None]
                await connection.execute(f"SET LOCAL lock_timeout = {_PATIENCE_MS}")
                for day in too_old(days, keep_days, min(at, theirs)):
                    try:
                        async with connection.transaction():
                            await connection.execute(f'DROP TABLE "{partition_name(table, day)}"')
                    except asyncpg.LockNotAvailableError:
                        self._log.info("an old partition is in use; dropped later", table=table, day=str(day))
                        break
                    self._known.discard(day)
                    self._log.info("old telemetry dropped", table=table, day=str(day))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
