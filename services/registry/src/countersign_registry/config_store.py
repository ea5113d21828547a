"""The registry's SQL for agents' configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
import orjson

from countersign_chassis import Connection, Database
from countersign_contracts.agent_config import Applied, ConfigValues, ConfigVersion

_LOCK = "SELECT pg_advisory_xact_lock($1, hashtext($2))"
#: First number of the advisory locks on scopes.
_SCOPES = 0x52454743
_PRESENT = """
SELECT DISTINCT ON (scope) * FROM config WHERE scope = ANY($1::text[]) ORDER BY scope, version DESC
"""
_ONE = "SELECT * FROM config WHERE scope = $1 AND version = $2"
_PAGE = """
SELECT * FROM config WHERE scope = $1 AND ($2::int IS NULL OR version < $2) ORDER BY version DESC LIMIT $3
"""
_ADD = """
INSERT INTO config (scope, version, body, settings_schema, by, at, reason) VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_OF_TYPE = """
SELECT agent_id, agent_type, heartbeat_s, EXISTS (
    SELECT FROM config c WHERE c.scope IN ('agent:' || a.agent_id, 'runtime:' || a.agent_id)
) AS own, coalesce(p.phase = 'running', false) AS running
FROM agent a LEFT JOIN phase p USING (agent_id)
WHERE a.status <> 'revoked' AND (a.agent_type = $1 OR a.agent_id = $2)
ORDER BY agent_id
"""
_APPLIED = "SELECT * FROM config_applied WHERE agent_id = ANY($1::text[])"
# Several registries hear it: the first writes it, and tells.
_SAY = """
INSERT INTO config_applied (agent_id, digest, result, reason, at)
SELECT a.agent_id, $2, $3, $4, $5 FROM agent a WHERE a.agent_id = $1
ON CONFLICT (agent_id) DO UPDATE
SET digest = excluded.digest, result = excluded.result, reason = excluded.reason, at = excluded.at
WHERE (config_applied.digest, config_applied.result, coalesce(config_applied.reason, ''))
      <> (excluded.digest, excluded.result, coalesce(excluded.reason, ''))
RETURNING agent_id
"""


@dataclass(frozen=True, slots=True)
class Configurable:
    """An agent whose configuration may change. ``own``: it has layers of its own."""

    agent_id: str
    agent_type: str | None
    heartbeat_s: int
    own: bool
    running: bool


class ConfigStore:
    """Layers, and what agents said of them. What takes a connection works in the caller's transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def lock(self, connection: Connection, scope: str) -> None:
        """Nobody else changes that layer until the transaction ends."""
        await connection.execute(_LOCK, _SCOPES, scope)

    async def present(self, connection: Connection | None, scopes: Sequence[str]) -> dict[str, ConfigVersion]:
        """The latest version of each layer that was ever set."""
        rows = await (connection or self._db.pool).fetch(_PRESENT, scopes)
        return {row["scope"]: _version(row) for row in rows}

    async def one(self, scope: str, version: int) -> ConfigVersion | None:
        """A version of a layer."""
        row = await self._db.pool.fetchrow(_ONE, scope, version)
        return None if row is None else _version(row)

    async def page(self, scope: str, before: int | None, limit: int) -> list[ConfigVersion]:
        """Versions of a layer, the latest first."""
        return [_version(row) for row in await self._db.pool.fetch(_PAGE, scope, before, limit)]

    async def add(self, connection: Connection, version: ConfigVersion) -> None:
        """Write a new version."""
        schema = version.settings_schema
        await connection.execute(
            _ADD,
            version.scope,
            version.version,
            version.values.to_bytes().decode(),
            None if schema is None else orjson.dumps(schema).decode(),
            version.by,
            version.at,
            version.reason,
        )

    async def agents(
        self, connection: Connection | None, *, agent_type: str | None = None, agent_id: str | None = None
    ) -> list[Configurable]:
        """The agents of a type, or one agent; revoked ones are not configured."""
        rows = await (connection or self._db.pool).fetch(_OF_TYPE, agent_type, agent_id)
        return [Configurable(**dict(row)) for row in rows]

    async def applied(self, agent_ids: Sequence[str]) -> dict[str, Applied]:
        """What agents said last."""
        rows = await self._db.pool.fetch(_APPLIED, agent_ids)
        return {
            row["agent_id"]: Applied(digest=row["digest"], result=row["result"], reason=row["reason"], at=row["at"])
            for row in rows
        }

    async def say(self, connection: Connection, agent_id: str, applied: Applied) -> bool:
        """Write what an agent said; false if it is known, or the agent is not."""
        row = await connection.fetchrow(_SAY, agent_id, applied.digest, applied.result, applied.reason, applied.at)
        return row is not None


def _version(row: asyncpg.Record) -> ConfigVersion:
    return ConfigVersion(
        scope=row["scope"],
        version=row["version"],
        values=ConfigValues.from_bytes(row["body"].encode()),
        settings_schema=None if row["settings_schema"] is None else orjson.loads(row["settings_schema"]),
        by=row["by"],
        at=row["at"],
        reason=row["reason"],
    )
