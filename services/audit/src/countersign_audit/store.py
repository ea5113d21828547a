"""Audit's SQL: the one place that knows the tables. Named, commented queries; what is decided is decided elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from countersign_chassis import BatchStatement, Connection, Database
from countersign_contracts.commands import ReadTimeline
from countersign_contracts.event import TYPE_PREFIX
from countersign_ledger.checkpoint import Checkpoint
from countersign_ledger.entry import GENESIS, Entry

from .sealing import Sealed
from .wrapped import Known


class Head(NamedTuple):
    """The end of the ledger: sequence and hash of its last entry; 0 and zeros while it is empty."""

    seq: int
    hash: bytes


class HeadMoved(Exception):
    """The ledger does not end where its only writer believes: another one wrote, or the database was changed."""


class TimelineRow(NamedTuple):
    """An entry as the timeline shows it. Of a body beyond the limit there is only size and hash."""

    seq: int
    at: datetime
    recorded_at: str
    type: str
    event_id: str
    source: str
    agent_id: str | None
    session_id: str | None
    request_id: str | None
    hash: bytes
    body: bytes | None
    body_bytes: int
    body_sha256: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Rows from one read; ``more``: there are further ones after the last."""

    rows: list[Any]
    more: bool


_ENTRY = (
    "seq, stream, epoch, stream_seq, event_id, type, source, subject, time, keyid, signature, recorded_at, body,"
    " prev_hash, hash"
)

# Takes the advisory lock that makes this session the ledger's only writer. It is the session's: it ends with the
# connection, whatever becomes of the process. Keepalives let the server notice within about ten seconds that the
# writer's machine is gone. Where commits are set to be asynchronous, this session's are not: a receipt means durable.
_LEAD = """
SELECT pg_try_advisory_lock(hashtextextended('countersign-ledger:' || current_schema(), 0)) AS leading,
       set_config('tcp_keepalives_idle', '5', false),
       set_config('tcp_keepalives_interval', '2', false),
       set_config('tcp_keepalives_count', '3', false),
       set_config('synchronous_commit', CASE current_setting('synchronous_commit')
           WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)
"""

_HEAD = "SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1"

# Appends a batch, if the ledger ends exactly at the head that the batch was chained to. The primary key alone makes a
# fork impossible; the condition makes a hole impossible too, should the database have lost its end meanwhile.
_APPEND = BatchStatement(
    """
INSERT INTO entries (seq, stream, epoch, stream_seq, event_id, type, source, subject, time, keyid, signature,
                     recorded_at, body, prev_hash, hash, at, agent_id, session_id, request_id)
SELECT u.* FROM {rows}
WHERE CASE $1::bigint WHEN 0 THEN NOT EXISTS (SELECT FROM entries)
      ELSE EXISTS (SELECT FROM entries WHERE seq = $1 AND hash = $2) END
""",
    "seq bigint, stream text, epoch bigint, stream_seq bigint, event_id text, type text, source text, subject text,"
    " time text, keyid text, signature bytea, recorded_at text, body bytea, prev_hash bytea, hash bytea,"
    " at timestamptz, agent_id text, session_id text, request_id text",
    others=2,
)

# What is on record under these ids: enough to tell a repeat from a conflict.
_KNOWN = """
SELECT event_id, seq, type, sha256(body) AS body_sha256, stream || '.' || epoch || '.' || stream_seq AS place
FROM entries WHERE event_id = ANY($1::text[])
"""

# How far a stream is on record.
_LAST_OF = "SELECT coalesce(max(stream_seq), 0) FROM entries WHERE stream = $1 AND epoch = $2"

# Which of these are on record as what they are, and where the ledger ends.
_ON_RECORD = """
SELECT (SELECT coalesce(array_agg(event_id), '{}') FROM entries WHERE event_id = ANY($1::text[])) AS event_ids,
       (SELECT coalesce(max(seq), 0) FROM entries) AS head
"""

# A page of entries within a budget of body bytes: the first in any case, then as many as fit. Sizes are read without
# reading the bodies.
_ENTRIES = f"""
SELECT {_ENTRY} FROM (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) - octet_length(body) AS before
    FROM entries WHERE seq BETWEEN $1 AND $2 ORDER BY seq LIMIT $3) page
WHERE before <= $4 ORDER BY seq
"""  # noqa: S608 (a constant)

# The timeline: what is asked for, in the order of the ledger, within a budget of shown bytes.
_TIMELINE = """
SELECT seq, at, recorded_at, type, event_id, source, agent_id, session_id, request_id, hash,
       CASE WHEN size <= $2 THEN body END AS body, size AS body_bytes,
       CASE WHEN size > $2 THEN sha256(body) END AS body_sha256, more
FROM (
    SELECT *, sum(least(size, $2)) OVER (ORDER BY seq {order} ROWS UNBOUNDED PRECEDING) - least(size, $2) AS before,
           lead(true, 1, false) OVER (ORDER BY seq {order}) AS more
    FROM (SELECT *, octet_length(body) AS size FROM entries WHERE {conditions} ORDER BY seq {order} LIMIT $1) found
) page
WHERE before <= $3 ORDER BY seq {order}
"""

# The last entry after a sequence that is no checkpoint's own event: what a new checkpoint would be for.
_UNCOVERED = "SELECT coalesce(max(seq), 0) FROM entries WHERE seq > $1 AND type <> $2"

_LAST_CHECKPOINT = "SELECT deployment, seq, hash, time, keyid, signature FROM checkpoints ORDER BY seq DESC LIMIT 1"

_CHECKPOINTS = """
SELECT deployment, seq, hash, time, keyid, signature FROM checkpoints WHERE seq BETWEEN $1 AND $2 ORDER BY seq
"""

# The same head signed twice (by a replica, for an export) is no conflict: the first is as good.
_KEEP_CHECKPOINT = """
INSERT INTO checkpoints (deployment, seq, hash, time, keyid, signature) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (seq) DO NOTHING
"""


class LedgerStore:
    """The ledger's tables."""

    def __init__(self, db: Database) -> None:
        self._db = db

    # --- the writer's session ---------------------------------------------------------------------

    async def lead(self, connection: Connection) -> bool:
        """Make this session the ledger's writer; False while another is."""
        row = await connection.fetchrow(_LEAD)
        return bool(row and row["leading"])

    async def append(self, connection: Connection, head: Head, batch: Sequence[Sealed], timeout_s: float) -> None:
        """Write a batch that was chained to ``head``, in one round trip and one commit. Raises :class:`HeadMoved`."""
        rows = [
            (
                e.seq,
                e.stream,
                e.epoch,
                e.stream_seq,
                e.event_id,
                e.type,
                e.source,
                e.subject,
                e.time,
                e.keyid,
                e.signature,
                e.recorded_at,
                e.body,
                e.prev_hash,
                e.hash,
                s.found.at,
                s.found.agent_id,
                s.found.session_id,
                s.found.request_id,
            )
            for s in batch
            for e in (s.entry,)
        ]
        statement, values = _APPEND.of(rows)
        status = await connection.execute(statement, head.seq, head.hash, *values, timeout=timeout_s)
        if status != f"INSERT 0 {len(batch)}":
            raise HeadMoved(f"the ledger does not end with entry {head.seq} as it did")

    async def known(self, connection: Connection, event_ids: Sequence[str]) -> dict[str, Known]:
        """What is on record under these ids."""
        rows = await connection.fetch(_KNOWN, event_ids)
        return {r["event_id"]: Known(r["seq"], r["type"], r["body_sha256"], r["place"]) for r in rows}

    # --- reading ----------------------------------------------------------------------------------

    async def head(self, connection: Connection | None = None) -> Head:
        """Where the ledger ends."""
        row = await self._row(_HEAD, connection)
        return Head(0, GENESIS) if row is None else Head(row["seq"], row["hash"])

    async def on_record(self, event_ids: Iterable[str]) -> tuple[set[str], int]:
        """Which of these are on record, and the sequence of the last entry."""
        row = await self._row(_ON_RECORD, None, list(event_ids))
        return set(row["event_ids"]), row["head"]

    async def last_of(self, stream: str, epoch: int) -> int:
        """The highest sequence of this incarnation of the stream that is on record; 0 if none is."""
        return int((await self._row(_LAST_OF, None, stream, epoch))[0])

    async def entries(self, first: int, last: int, *, rows: int, body_bytes: int) -> list[Entry]:
        """Entries ``first`` to ``last``, at most ``rows``, and at most about ``body_bytes`` of bodies; one at least."""
        async with self._db.connection() as connection:
            return [Entry(*r.values()) for r in await connection.fetch(_ENTRIES, first, last, rows, body_bytes)]

    async def timeline(self, asked: ReadTimeline, *, shown_bytes: int, page_bytes: int) -> Page:
        """What is asked for; bodies beyond ``shown_bytes`` left out, and no more than about ``page_bytes`` in all."""
        conditions, values = _conditions(asked, first_parameter=4)
        query = _TIMELINE.format(
            conditions=" AND ".join(conditions) or "true", order="DESC" if asked.newest_first else "ASC"
        )
        async with self._db.connection() as connection:
            # one more than asked for tells whether there is a next page
            found = await connection.fetch(query, asked.limit + 1, shown_bytes, page_bytes, *values)
        rows = [TimelineRow(*tuple(r.values())[:-1]) for r in found[: asked.limit]]
        return Page(rows, more=bool(rows) and bool(found[len(rows) - 1]["more"]))

    # --- checkpoints ------------------------------------------------------------------------------

    async def uncovered(self, after: int, checkpoint_type: str, connection: Connection | None = None) -> int:
        """Sequence of the last entry after ``after`` that is not a checkpoint's own event; 0 if there is none."""
        row = await self._row(_UNCOVERED, connection, after, checkpoint_type)
        return int(row[0])

    async def last_checkpoint(self, connection: Connection | None = None) -> Checkpoint | None:
        """The checkpoint of the highest sequence."""
        row = await self._row(_LAST_CHECKPOINT, connection)
        return None if row is None else Checkpoint(**dict(row))

    async def checkpoints(self, first: int, last: int) -> list[Checkpoint]:
        """The checkpoints for entries ``first`` to ``last``."""
        async with self._db.connection() as connection:
            return [Checkpoint(**dict(r)) for r in await connection.fetch(_CHECKPOINTS, first, last)]

    async def keep(self, checkpoint: Checkpoint) -> None:
        """Store a checkpoint."""
        c = checkpoint
        async with self._db.connection() as connection:
            await connection.execute(_KEEP_CHECKPOINT, c.deployment, c.seq, c.hash, c.time, c.keyid, c.signature)

    async def _row(self, query: str, connection: Connection | None, *values: Any) -> Any:
        if connection is not None:
            return await connection.fetchrow(query, *values)
        async with self._db.connection() as own:
            return await own.fetchrow(query, *values)


def _conditions(asked: ReadTimeline, *, first_parameter: int) -> tuple[list[str], list[str | int | datetime]]:
    """SQL conditions and their values; only what is asked for appears, so that each query has the plan it needs."""
    wanted: list[tuple[str, str | int | datetime | None]] = [
        ("agent_id = ${}", asked.agent_id),
        ("session_id = ${}", asked.session_id),
        ("request_id = ${}", asked.request_id),
        # the column's collation is "C", so a prefix is a range of the index
        ("type LIKE ${}", None if asked.kind is None else _pattern(TYPE_PREFIX + asked.kind)),
        ("at >= ${}", asked.since),
        ("at < ${}", asked.until),
        ("seq < ${}" if asked.newest_first else "seq > ${}", asked.after or None),
    ]
    conditions: list[str] = []
    values: list[str | int | datetime] = []
    for condition, value in wanted:
        if value is not None:
            conditions.append(condition.format(first_parameter + len(values)))
            values.append(value)
    return conditions, values


def _pattern(prefix: str) -> str:
    """The LIKE pattern of everything that begins with ``prefix``."""
    return prefix.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"
