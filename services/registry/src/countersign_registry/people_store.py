"""The registry's SQL for people."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime

import asyncpg

from countersign_chassis import Connection, Database
from countersign_contracts.fleet import PersonRecord

# Locks the name, not the row: two that add the same person at once must not both find nobody.
_LOCK = "SELECT pg_advisory_xact_lock($1, hashtext($2))"
_FIND = "SELECT * FROM person WHERE name = $1"
_SOME = "SELECT * FROM person WHERE name = ANY($1::text[])"
_AFTER = "SELECT * FROM person WHERE name > $1 ORDER BY name LIMIT $2"
_EVERYONE = "SELECT * FROM person ORDER BY name"
_SAVE = """
INSERT INTO person (name, roles, token_sha256, status, revision, created_at) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (name) DO UPDATE
SET roles = excluded.roles, token_sha256 = excluded.token_sha256, status = excluded.status, revision = excluded.revision
"""

#: First number of the advisory locks on names of people.
_NAMES = 0x52454750


class PeopleStore:
    """People. What takes a connection works in the caller's transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A connection inside a transaction."""
        return self._db.transaction()

    async def lock(self, connection: Connection, name: str) -> PersonRecord | None:
        """That person, if there is one; nobody else changes them until the transaction ends."""
        await connection.execute(_LOCK, _NAMES, name)
        row = await connection.fetchrow(_FIND, name)
        return None if row is None else _record(row)

    async def save(self, connection: Connection, record: PersonRecord, at: datetime) -> None:
        """Write a locked person; ``at`` is when they were first added, if they are new."""
        await connection.execute(
            _SAVE, record.name, list(record.roles), record.token_sha256, record.status, record.revision, at
        )

    async def everyone(self) -> list[tuple[PersonRecord, datetime]]:
        """Everyone by name, and when they were added."""
        return [(_record(row), row["created_at"]) for row in await self._db.pool.fetch(_EVERYONE)]

    async def some(self, connection: Connection, names: Sequence[str]) -> dict[str, PersonRecord]:
        """Those of ``names`` that there are."""
        return {row["name"]: _record(row) for row in await connection.fetch(_SOME, names)}

    async def after(self, connection: Connection, name: str, limit: int) -> dict[str, PersonRecord]:
        """The next people by name."""
        return {row["name"]: _record(row) for row in await connection.fetch(_AFTER, name, limit)}


def _record(row: asyncpg.Record) -> PersonRecord:
    return PersonRecord(
        name=row["name"],
        roles=tuple(row["roles"]),
        token_sha256=row["token_sha256"],
        status=row["status"],
        revision=row["revision"],
    )
