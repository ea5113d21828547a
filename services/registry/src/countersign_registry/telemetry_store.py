"""The registry's SQL that keeps what agents tell of their work: each batch once, with all that it brought."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from countersign_chassis import Connection, Database
from countersign_contracts.telemetry import LEVELS, MEASURED, Kind, LogBatch, MetricReport

# Which batches are new is decided by whoever inserts them first; the order keeps two registries from a deadlock.
_BATCHES = """
WITH said AS (
    SELECT * FROM unnest($2::text[], $3::text[], $4::timestamptz[]) AS u (agent_id, batch, received_at)
), known AS (
    SELECT agent_id FROM agent WHERE agent_id = ANY($2::text[])
), new AS (
    INSERT INTO telemetry_batch (agent_id, kind, batch, received_at)
    SELECT agent_id, $1, batch, received_at FROM said JOIN known USING (agent_id) ORDER BY agent_id, batch
    ON CONFLICT DO NOTHING RETURNING agent_id, batch
)
SELECT said.agent_id, said.batch, known.agent_id IS NOT NULL AS known, new.batch IS NOT NULL AS new
FROM said LEFT JOIN known USING (agent_id) LEFT JOIN new ON (new.agent_id, new.batch) = (said.agent_id, said.batch)
"""

_FORGET = """
DELETE FROM telemetry_batch WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM telemetry_batch WHERE received_at < $1 LIMIT $2
))
"""

LOG_COLUMNS = (
    "agent_id",
    "at",
    "received_at",
    "batch",
    "place",
    "severity",
    "text",
    "logger",
    "fields",
    "request_id",
)
#: Columns of `agent_metrics` that are fields of a report under the same name.
REPORT_COLUMNS = ("at", "batch", "interval_s", *MEASURED)
METRIC_COLUMNS = ("agent_id", "received_at", *REPORT_COLUMNS, "own")

#: Whose batch it is, and its id.
Key = tuple[str, str]
Said = Mapping[Key, tuple[datetime, LogBatch | MetricReport]]


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of batches: ``new`` were kept, ``unknown`` are of no agent that there is, others were kept before."""

    new: frozenset[Key]
    unknown: frozenset[Key]


class TelemetryStore:
    """Writes, and forgets."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def keep(self, kind: Kind, said: Said) -> Kept:
        """Keep those of these batches, each with when it came, that are new, all together."""
        async with self._db.transaction() as connection:
            rows = await connection.fetch(
                _BATCHES,
                kind,
                [agent_id for agent_id, _ in said],
                [batch for _, batch in said],
                [received_at for received_at, _ in said.values()],
            )
            kept = Kept(
                new=frozenset((row["agent_id"], row["batch"]) for row in rows if row["new"]),
                unknown=frozenset((row["agent_id"], row["batch"]) for row in rows if not row["known"]),
            )
            await _copy(connection, kind, {key: said[key] for key in said if key in kept.new})
        return kept

    async def forget(self, before: datetime, limit: int) -> int:
        """Delete up to ``limit`` batches' ids that came before that; returns how many."""
        done: str = await self._db.pool.execute(_FORGET, before, limit)
        return int(done.rpartition(" ")[2])


async def _copy(connection: Connection, kind: Kind, said: Said) -> None:
    if not said:
        return
    if kind == "logs":
        await connection.copy_records_to_table("agent_log", records=_log_rows(said), columns=LOG_COLUMNS)
    else:
        await connection.copy_records_to_table("agent_metrics", records=_metric_rows(said), columns=METRIC_COLUMNS)


def _log_rows(said: Said) -> Iterator[tuple[Any, ...]]:
    for (agent_id, batch), (received_at, each) in said.items():
        if isinstance(each, LogBatch):
            for place, record in enumerate(each.records):
                yield (
                    agent_id,
                    record.at,
                    received_at,
                    batch,
                    place,
                    LEVELS.index(record.level),
                    record.text,
                    record.logger,
                    orjson.dumps(record.fields).decode() if record.fields else None,
                    record.request_id,
                )


def _metric_rows(said: Said) -> Iterator[tuple[Any, ...]]:
    for (agent_id, _), (received_at, each) in said.items():
        if isinstance(each, MetricReport):
            own = orjson.dumps(each.values).decode() if each.values else None
            yield (agent_id, received_at, *(getattr(each, column) for column in REPORT_COLUMNS), own)


def fields_of(row: asyncpg.Record, columns: Sequence[str]) -> dict[str, Any]:
    """Those columns by name, without those that are null."""
    return {column: value for column in columns if (value := row[column]) is not None}
