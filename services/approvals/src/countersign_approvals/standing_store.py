"""The SQL of standing approvals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
from pydantic import TypeAdapter

from countersign_chassis import Connection, Database
from countersign_contracts.actions import Action, Risk
from countersign_contracts.approvals import Standing, Vote

_VOTES: TypeAdapter[tuple[Vote, ...]] = TypeAdapter(tuple[Vote, ...])
_INSERT = """
INSERT INTO standing (standing_id, approval_id, agent_id, tool, env, resource, risk, granted_by, votes, granted_at,
                      until, max_uses)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""
_IN_FORCE = "revoked_at IS NULL AND used < max_uses AND until > "
_CANDIDATES = f"""
SELECT * FROM standing WHERE agent_id = $1 AND tool = $2 AND env = $3 AND {_IN_FORCE} $4
ORDER BY until, standing_id
"""  # noqa: S608
_TAKE = f"SELECT * FROM standing WHERE standing_id = $1 AND {_IN_FORCE} $2 FOR UPDATE"  # noqa: S608
_USE = "UPDATE standing SET used = used + 1 WHERE standing_id = $1"
_NOTE = "INSERT INTO standing_use (approval_id, standing_id, used_at) VALUES ($1, $2, $3)"
_REVOKE = """
UPDATE standing SET revoked_by = $2, revoked_at = $3 WHERE standing_id = $1 AND revoked_at IS NULL RETURNING *
"""
_GRANTED_BY = """
SELECT * FROM standing WHERE granted_by @> ARRAY[$1::text] AND revoked_at IS NULL AND until > $2 AND used < max_uses
"""


@dataclass(frozen=True, slots=True)
class Granted:
    """A standing approval, the risk people saw, and the votes it came of."""

    standing: Standing
    risk: Risk | None
    votes: tuple[Vote, ...]


class StandingStore:
    """The queries."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def insert(self, connection: Connection, granted: Granted) -> None:
        """Write a new one."""
        standing = granted.standing
        await connection.execute(
            _INSERT,
            standing.standing_id,
            standing.approval_id,
            standing.agent_id,
            standing.tool,
            standing.env,
            standing.resource,
            granted.risk,
            list(standing.granted_by),
            _VOTES.dump_json(granted.votes, exclude_none=True).decode(),
            standing.granted_at,
            standing.until,
            standing.max_uses,
        )

    async def candidates(self, action: Action, at: datetime) -> list[Granted]:
        """Those in force for the agent, the tool and the environment, the one that ends first before others."""
        rows = await self._db.pool.fetch(_CANDIDATES, action.agent_id, action.tool, action.env, at)
        return [_granted(row) for row in rows]

    async def take(self, connection: Connection, standing_id: str, at: datetime) -> bool:
        """Hold it against other changes, if it is still in force."""
        return bool(await connection.fetch(_TAKE, standing_id, at))

    async def use(self, connection: Connection, standing_id: str, approval_id: str, at: datetime) -> None:
        """Count a use of a held one."""
        await connection.execute(_USE, standing_id)
        await connection.execute(_NOTE, approval_id, standing_id, at)

    async def get(self, connection: Connection, standing_id: str) -> Standing | None:
        """One, in force or not."""
        row = await connection.fetchrow("SELECT * FROM standing WHERE standing_id = $1", standing_id)
        return None if row is None else _standing(row)

    async def revoke(self, connection: Connection, standing_id: str, by: str, at: datetime) -> Standing | None:
        """Revoke it; None if it is unknown, or revoked already."""
        row = await connection.fetchrow(_REVOKE, standing_id, by, at)
        return None if row is None else _standing(row)

    async def granted_by(self, person: str, at: datetime) -> list[Granted]:
        """Those in force that this person granted, alone or with others."""
        return [_granted(row) for row in await self._db.pool.fetch(_GRANTED_BY, person, at)]

    async def page(
        self, *, agent_id: str | None, in_force_at: datetime | None, limit: int, after: str | None
    ) -> Sequence[Standing]:
        """Newest first, after the standing approval ``after``."""
        given: list[Any] = []
        where = ["true"]
        for text, value in (
            ("agent_id = ${}", agent_id),
            (_IN_FORCE + "${}", in_force_at),
            (
                "(granted_at, standing_id) < (SELECT granted_at, standing_id FROM standing WHERE standing_id = ${})",
                after,
            ),
        ):
            if value is not None:
                given.append(value)
                where.append(text.format(len(given)))
        query = (
            f"SELECT * FROM standing WHERE {' AND '.join(where)}"  # noqa: S608
            f" ORDER BY granted_at DESC, standing_id DESC LIMIT {int(limit)}"
        )
        return [_standing(row) for row in await self._db.pool.fetch(query, *given)]


def _granted(row: asyncpg.Record) -> Granted:
    return Granted(_standing(row), row["risk"], _VOTES.validate_json(row["votes"]))


def _standing(row: asyncpg.Record) -> Standing:
    return Standing.model_validate({name: row[name] for name in Standing.model_fields})
