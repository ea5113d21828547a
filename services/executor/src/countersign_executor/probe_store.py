"""Which unknown outcomes are due to be looked up: all of its SQL. A row that is due is one executor's at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from countersign_chassis import Database
from countersign_contracts.catalogue import Tool

#: A lookup that takes longer than this may be made by another executor as well, which harms nothing.
_LEASE_S = 120

_DUE = """
WITH due AS (
    SELECT request_id FROM executions
     WHERE state = 'unknown' AND reconciled IS NULL AND probes < $1
       AND (probe_at IS NULL OR probe_at <= clock_timestamp())
     ORDER BY finished_at LIMIT $2
       FOR UPDATE SKIP LOCKED
)
UPDATE executions e SET probe_at = clock_timestamp() + make_interval(secs => $3)
  FROM due WHERE e.request_id = due.request_id
RETURNING e.request_id, e.event, e.finished_at, e.probes
"""

_LATER = """
UPDATE executions SET probes = $2, probe_at = clock_timestamp() + make_interval(secs => $3) WHERE request_id = $1
"""

_NEVER = "UPDATE executions SET probe_at = 'infinity' WHERE request_id = $1"

_TOOL = "SELECT body FROM tool_versions WHERE name = $1 AND version = $2"


@dataclass(frozen=True, slots=True)
class Due:
    """An unknown outcome: ``event`` is the body that said so, ``probes`` how often it was looked up already."""

    request_id: str
    event: bytes
    finished_at: datetime
    probes: int


class ProbeStore:
    """The queries."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def due(self, max_probes: int, limit: int) -> list[Due]:
        """Those that are due, now this executor's for a while."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(_DUE, max_probes, limit, _LEASE_S)
        return [Due(str(row[0]), row[1], row[2], row[3]) for row in rows]

    async def tool(self, name: str, version: int) -> Tool | None:
        """The tool as it was at that version."""
        async with self._db.connection() as connection:
            body = await connection.fetchval(_TOOL, name, version)
        return None if body is None else Tool.from_bytes(body)

    async def later(self, request_id: str, probes: int, pause_s: float) -> None:
        """Look again after a pause; ``probes`` lookups were made."""
        async with self._db.connection() as connection:
            await connection.execute(_LATER, request_id, probes, pause_s)

    async def never(self, request_id: str) -> None:
        """It cannot be looked up: that is people's matter."""
        async with self._db.connection() as connection:
            await connection.execute(_NEVER, request_id)
