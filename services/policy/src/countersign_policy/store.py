"""The decisions' SQL: decided once, counted in the same transaction. See :mod:`.declarations` for what is declared.

An action without counters takes one statement. With counters: lock them in order, read what is used under the locks,
decide, write decision and reservations, commit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

import asyncpg

from countersign_chassis import BatchStatement, Connection, Database
from countersign_contracts.actions import ActionEvent
from countersign_contracts.envelope import Envelope, source_of
from countersign_contracts.event import EVENTS

from .guardrails import Count

_PURGE_AT_ONCE = 10_000

Outcome = Literal["allow", "deny", "hold", "cancelled"]

# Writes decisions, but only under the policy version they were made with; answers which.
_WRITTEN = """
WITH present AS (SELECT version FROM policy_set),
inserted AS (
    INSERT INTO decision (request_id, agent_id, outcome, decided_at, policy_version,
                          event_type, event_time, keyid, signature, body)
    SELECT u.* FROM {rows}
    WHERE (SELECT version FROM present) = $1
    ON CONFLICT (request_id) DO NOTHING
    RETURNING request_id
)"""
_ANSWER = """
SELECT (SELECT version FROM present) AS version, ARRAY(SELECT request_id FROM inserted) AS inserted
"""
_COLUMNS = (
    "request_id uuid, agent_id text, outcome text, decided_at timestamptz, policy_version text, event_type text,"
    " event_time text, keyid text, signature bytea, body bytea"
)
_INSERT = BatchStatement(_WRITTEN + _ANSWER, _COLUMNS, others=1)

# The same, with their reservations.
_INSERT_COUNTED = BatchStatement(
    _WRITTEN  # noqa: S608 (constants)
    + """,
reserved AS (
    INSERT INTO guardrail_usage (request_id, counter, amount, at, expires_at)
    SELECT r.request_id, r.counter, r.amount, r.at, r.expires_at
    FROM unnest($2::uuid[], $3::text[], $4::numeric[], $5::timestamptz[], $6::timestamptz[])
        WITH ORDINALITY AS r (request_id, counter, amount, at, expires_at, n)
    WHERE r.request_id IN (SELECT request_id FROM inserted)
    ORDER BY r.n
    ON CONFLICT (request_id, counter) DO NOTHING
)"""
    + _ANSWER,
    _COLUMNS,
    others=6,
)

_BEGIN_DECISIONS = "SELECT version, known, used FROM begin_decisions($1::uuid[], $2, $3, $4)"

_BEGIN_RESOLUTION = "SELECT version, held, used FROM begin_resolution($1::uuid, $2, $3, $4)"

# Replaces what was held by what became of it. The row is locked, and still held.
_RESOLVE = """
UPDATE decision
SET agent_id = $2, outcome = $3, decided_at = $4, policy_version = $5,
    event_type = $6, event_time = $7, keyid = $8, signature = $9, body = $10
WHERE request_id = $1::uuid
"""

_RESERVE = """
INSERT INTO guardrail_usage (request_id, counter, amount, at, expires_at)
SELECT u.request_id, u.counter, u.amount, u.at, u.expires_at
FROM unnest($1::uuid[], $2::text[], $3::numeric[], $4::timestamptz[], $5::timestamptz[])
    WITH ORDINALITY AS u (request_id, counter, amount, at, expires_at, n)
ORDER BY u.n
ON CONFLICT (request_id, counter) DO NOTHING
"""

_GIVE_BACK = "DELETE FROM guardrail_usage WHERE request_id = $1::uuid"

_FIND = """
SELECT request_id, agent_id, outcome, event_type, event_time, keyid, signature, body
FROM decision WHERE request_id = ANY ($1::uuid[])
"""

# The executor would not start them: nothing ran, so nothing counts.
_REFUSED = """
WITH refused AS (UPDATE decision SET refused = true WHERE request_id = ANY ($1::uuid[]))
DELETE FROM guardrail_usage WHERE request_id = ANY ($1::uuid[])
"""

# Cancels what is not decided or held; the row's own lock arbitrates against a decision or resolution meanwhile.
_CANCEL = """
WITH cancelled AS (
    INSERT INTO decision (request_id, agent_id, outcome, decided_at, cancelled_by, cancel_reason)
    VALUES ($1::uuid, $2, 'cancelled', $3, $4, $5)
    ON CONFLICT (request_id) DO UPDATE
    SET outcome = 'cancelled', decided_at = excluded.decided_at,
        cancelled_by = excluded.cancelled_by, cancel_reason = excluded.cancel_reason
    WHERE decision.outcome = 'hold' AND decision.agent_id = excluded.agent_id
    RETURNING request_id
),
given_back AS (DELETE FROM guardrail_usage WHERE request_id IN (SELECT request_id FROM cancelled))
SELECT EXISTS (SELECT FROM cancelled)
"""

# A reservation that has left its window counts no more; a held action's is kept, since it is judged as of its own time.
_PURGE = """
DELETE FROM guardrail_usage WHERE id IN (
    SELECT u.id FROM guardrail_usage u
    WHERE u.expires_at < $1
      AND NOT EXISTS (SELECT FROM decision d WHERE d.request_id = u.request_id AND d.outcome = 'hold')
    LIMIT $2)
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A decision to be written, with its sealed event and what it counts."""

    outcome: Outcome
    agent_id: str
    envelope: Envelope
    decided_at: datetime
    policy_version: str
    counts: tuple[Count, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """A decision that was written. ``envelope``: the event that told of it; none if it was cancelled undecided."""

    request_id: str
    agent_id: str
    outcome: Outcome
    envelope: Envelope | None


@dataclass(frozen=True, slots=True)
class Present:
    """What is true under the counters' locks. ``known``: requests that are decided already."""

    version: str
    known: frozenset[str]
    used: Sequence[Decimal]


@dataclass(frozen=True, slots=True)
class Resolution:
    """What is true of a held action under its locks; ``held``: whether it still is."""

    version: str
    held: bool
    used: Sequence[Decimal]


class Decisions:
    """The decisions and the guardrails' usage."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction; the counters' locks last as long as it."""
        async with self._db.hot() as connection, connection.transaction():
            yield connection

    async def begin_decisions(
        self, connection: Connection, ids: Sequence[str], windows: Mapping[str, int], at: datetime
    ) -> Present:
        """Lock the counters in ``windows`` (key to seconds) and read them; ``used`` is in their order."""
        row = await connection.fetchrow(_BEGIN_DECISIONS, ids, list(windows), list(windows.values()), at)
        row = _always(row)
        return Present(row["version"], frozenset(str(id) for id in row["known"]), row["used"])

    async def begin_resolution(
        self, connection: Connection, id: str, counts: Sequence[Count], at: datetime
    ) -> Resolution:
        """Lock a held action and its counters; ``used`` is in the order of ``counts``."""
        keys, windows_s = [count.key for count in counts], [count.window_s for count in counts]
        row = await connection.fetchrow(_BEGIN_RESOLUTION, id, keys, windows_s, at)
        row = _always(row)
        return Resolution(row["version"], row["held"], row["used"])

    async def insert(
        self, rows: Sequence[Row], version: str, connection: Connection | None = None
    ) -> tuple[str, frozenset[str]]:
        """Write new decisions; returns the version in force, and which were written.

        None is written if the version in force is not ``version``; one that exists stays as it is.
        """
        # one order for everybody: two replicas with the same requests wait for each other, and never both
        in_order = sorted(rows, key=lambda row: row.envelope.subject)
        values = [_values(row) for row in in_order]
        reservations = _reservations(rows)
        statement, others = (_INSERT_COUNTED, reservations) if reservations[0] else (_INSERT, ())
        if connection is None:
            async with self._db.hot() as own:
                (row,) = await statement.fetch(own, values, version, *others)
        else:
            (row,) = await statement.fetch(connection, values, version, *others)
        return row["version"], frozenset(str(id) for id in row["inserted"])

    async def resolve(self, connection: Connection, row: Row) -> None:
        """Write what became of a held action; if it is denied, its reservation is given back."""
        await connection.execute(_RESOLVE, *_values(row))
        if row.outcome == "deny":
            await connection.execute(_GIVE_BACK, row.envelope.subject)
        elif row.counts:
            await connection.execute(_RESERVE, *_reservations([row]))

    async def find(self, ids: Iterable[str]) -> dict[str, Stored]:
        """The stored decisions among ``ids``."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(_FIND, list(ids))
        return {stored.request_id: stored for stored in map(_stored, rows)}

    async def refused(self, ids: Sequence[str]) -> None:
        """The executor refused these: give their reservations back."""
        async with self._db.connection() as connection:
            await connection.execute(_REFUSED, ids)

    async def cancel(self, request_id: str, agent_id: str, by: str, reason: str | None, at: datetime) -> bool:
        """Cancel unless it is decided; whether that was done now."""
        async with self._db.connection() as connection:
            return bool(await connection.fetchval(_CANCEL, request_id, agent_id, at, by, reason))

    async def purge(self, at: datetime) -> int:
        """Delete reservations that count no more at ``at``, in short statements; returns how many."""
        purged, last = 0, _PURGE_AT_ONCE
        while last == _PURGE_AT_ONCE:
            async with self._db.connection() as connection:
                last = int((await connection.execute(_PURGE, at, _PURGE_AT_ONCE)).rpartition(" ")[2])
            purged += last
        return purged


def _always(row: asyncpg.Record | None) -> asyncpg.Record:
    if row is None:
        raise RuntimeError("this statement always answers one row")
    return row


def _values(row: Row) -> tuple[object, ...]:
    return (
        row.envelope.subject,
        row.agent_id,
        row.outcome,
        row.decided_at,
        row.policy_version,
        row.envelope.type,
        row.envelope.time,
        row.envelope.keyid,
        row.envelope.signature,
        row.envelope.body,
    )


def _reservations(rows: Sequence[Row]) -> tuple[list[object], ...]:
    kept = [(r, count) for r in rows if r.outcome in ("allow", "hold") for count in r.counts]
    return (
        [r.envelope.subject for r, _ in kept],
        [count.key for _, count in kept],
        [count.amount for _, count in kept],
        [r.decided_at for r, _ in kept],
        [r.decided_at + timedelta(seconds=count.window_s) for r, count in kept],
    )


def _stored(row: asyncpg.Record) -> Stored:
    id, envelope = str(row["request_id"]), None
    if row["body"] is not None:
        name = EVENTS[row["event_type"]].spec.name
        envelope = Envelope(
            id=f"{id}.{name}",
            type=row["event_type"],
            source=source_of("policy"),
            subject=id,
            time=row["event_time"],
            keyid=row["keyid"],
            signature=row["signature"],
            body=row["body"],
        )
    return Stored(id, row["agent_id"], row["outcome"], envelope)


def subject_of(envelope: Envelope, agent_id: str) -> tuple[str, str]:
    """The NATS subject and stream of a decision's event."""
    spec = EVENTS[envelope.type].spec
    if not issubclass(EVENTS[envelope.type], ActionEvent):
        raise ValueError(f"{envelope.type} is no event about an action")
    return spec.subject.format(token=agent_id), spec.stream
