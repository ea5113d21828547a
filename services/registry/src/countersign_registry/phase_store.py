"""The registry's SQL for what agents are seen to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from countersign_chassis import Connection, Database
from countersign_contracts.fleet import AgentPhase, AgentStatus

_SEEN = """
SELECT a.agent_id, a.status, a.heartbeat_s, coalesce(p.phase, 'registered') AS phase, h.last_seen
FROM agent a LEFT JOIN phase p USING (agent_id) LEFT JOIN heartbeat h USING (agent_id)
"""
_LOCK = "SELECT FROM agent WHERE agent_id = ANY($1::text[]) ORDER BY agent_id FOR UPDATE"
_SOME = _SEEN + "WHERE a.agent_id = ANY($1::text[])"
_SAVE = """
INSERT INTO phase (agent_id, phase, since, cause)
SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[])
ON CONFLICT (agent_id) DO UPDATE SET phase = excluded.phase, since = excluded.since, cause = excluded.cause
"""
_COUNTS = """
SELECT coalesce(p.phase, 'registered') AS phase, count(*) AS n
FROM agent a LEFT JOIN phase p USING (agent_id)
WHERE a.status <> 'revoked' AND a.deleted_at IS NULL GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of one agent. ``last_seen``: as written, a few seconds behind."""

    phase: AgentPhase
    status: AgentStatus
    heartbeat_s: int
    last_seen: datetime | None


class PhaseStore:
    """Phases of agents. What takes a connection works in the caller's transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def all(self) -> dict[str, Seen]:
        """Every agent."""
        return {row["agent_id"]: _seen(row) for row in await self._db.pool.fetch(_SEEN)}

    async def lock(self, connection: Connection, agent_ids: Sequence[str]) -> dict[str, Seen]:
        """Those agents that there are, kept from changing until the transaction ends."""
        await connection.execute(_LOCK, agent_ids)
        return {row["agent_id"]: _seen(row) for row in await connection.fetch(_SOME, agent_ids)}

    async def save(self, connection: Connection, changes: Sequence[tuple[str, AgentPhase, datetime, str]]) -> None:
        """Write ``(agent, phase, since, cause)`` of locked agents."""
        await connection.execute(_SAVE, *(list(column) for column in zip(*changes, strict=True)))

    async def counts(self) -> dict[str, int]:
        """How many agents are in each phase; of those that are revoked nothing is expected."""
        return {row["phase"]: row["n"] for row in await self._db.pool.fetch(_COUNTS)}


def _seen(row: asyncpg.Record) -> Seen:
    return Seen(row["phase"], row["status"], row["heartbeat_s"], row["last_seen"])
