"""The registry's SQL for people."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime

import asyncpg
import orjson

from countersign_chassis import Connection, Database
from countersign_contracts.fleet import ChannelIdentity, PersonRecord
from countersign_contracts.people_commands import PersonView

# Locks the name, not the row: two that add the same person at once must not both find nobody.
_LOCK = "SELECT pg_advisory_xact_lock($1, hashtext($2))"
_PERSON = """
SELECT person.*,
       (SELECT json_agg(json_build_object('channel', channel, 'identity', identity, 'enrolled_at', enrolled_at)
                        ORDER BY channel, identity)
        FROM channel_identity WHERE person = person.name) AS channels,
       EXISTS (SELECT FROM totp WHERE person = person.name AND secret IS NOT NULL) AS totp,
       (SELECT array_agg(DISTINCT allowed ORDER BY allowed)
        FROM role, unnest(role.permissions) AS allowed WHERE role.name = ANY(person.roles)) AS granted
FROM person
"""
_FIND = f"{_PERSON} WHERE name = $1"
_SOME = f"{_PERSON} WHERE name = ANY($1::text[])"
_AFTER = f"{_PERSON} WHERE name > $1 ORDER BY name LIMIT $2"
_SAVE = """
INSERT INTO person (name, roles, token_sha256, status, groups, revision, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (name) DO UPDATE
SET roles = excluded.roles, token_sha256 = excluded.token_sha256, status = excluded.status, groups = excluded.groups,
    revision = excluded.revision
"""
_NO_CHANNELS = "DELETE FROM channel_identity WHERE person = $1"
_CHANNEL = "INSERT INTO channel_identity (channel, identity, person, enrolled_at) VALUES ($1, $2, $3, $4)"

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
        """Write a locked person; ``at`` is when they were first added, if they are new.

        Whether they have a one-time code generator says table `totp`, and what declared roles grant table `role`, not
        the record.
        """
        await connection.execute(
            _SAVE,
            record.name,
            list(record.roles),
            record.token_sha256,
            record.status,
            list(record.groups),
            record.revision,
            at,
        )
        await connection.execute(_NO_CHANNELS, record.name)
        await connection.executemany(
            _CHANNEL, [(each.channel, each.identity, record.name, each.enrolled_at) for each in record.channels]
        )

    async def find(self, connection: Connection, name: str) -> PersonRecord | None:
        """That person, if there is one, as they are now."""
        row = await connection.fetchrow(_FIND, name)
        return None if row is None else _record(row)

    async def view(self, connection: Connection, name: str) -> PersonView:
        """A person who is there."""
        [row] = await connection.fetch(_FIND, name)
        return _view(row)

    async def page(self, name: str, limit: int) -> list[PersonView]:
        """The next people by name."""
        return [_view(row) for row in await self._db.pool.fetch(_AFTER, name, limit)]

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
        granted=tuple(row["granted"] or ()),
        token_sha256=row["token_sha256"],
        status=row["status"],
        groups=tuple(row["groups"]),
        channels=_channels(row),
        totp=row["totp"],
        revision=row["revision"],
    )


def _view(row: asyncpg.Record) -> PersonView:
    return PersonView(
        name=row["name"],
        roles=tuple(row["roles"]),
        status=row["status"],
        groups=tuple(row["groups"]),
        channels=_channels(row),
        totp=row["totp"],
        created_at=row["created_at"],
        revision=row["revision"],
    )


def _channels(row: asyncpg.Record) -> tuple[ChannelIdentity, ...]:
    return tuple(ChannelIdentity.model_validate(each) for each in orjson.loads(row["channels"] or "[]"))
