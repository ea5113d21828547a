"""The registry's SQL for declared roles."""

from __future__ import annotations

from collections.abc import Collection

import asyncpg

from countersign_chassis import Connection, Database
from countersign_contracts.custom_roles import Role

_NAMED = "SELECT * FROM role WHERE name = ANY($1::text[])"
# While these are read nobody changes them: who gives a role gives what it allows at that moment.
_HELD = f"{_NAMED} ORDER BY name FOR SHARE"
_LOCKED = f"{_NAMED} ORDER BY name FOR UPDATE"
_EVERY = "SELECT * FROM role ORDER BY name"
_SAVE = """
INSERT INTO role (name, description, permissions) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET description = excluded.description, permissions = excluded.permissions
"""
_REMOVE = "DELETE FROM role WHERE name = $1"
_WHO = "SELECT name FROM person WHERE roles && $1::text[] AND status = 'active' ORDER BY name"
_COUNTS = """
SELECT role, count(*) AS n FROM person, unnest(roles) AS role WHERE status = 'active' GROUP BY role
"""
# The person is locked. What their roles grant is no column of theirs, but what others see of them changes.
_MOVED = "UPDATE person SET revision = revision + 1 WHERE name = $1"


class RoleStore:
    """What takes a connection works in the caller's transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def present(self, connection: Connection, names: Collection[str]) -> dict[str, Role]:
        """Those of ``names`` that there are."""
        return _roles(await connection.fetch(_NAMED, list(names)))

    async def held(self, connection: Connection, names: Collection[str]) -> dict[str, Role]:
        """As :meth:`present`; nobody changes them until the transaction ends."""
        return _roles(await connection.fetch(_HELD, list(names)))

    async def lock(self, connection: Connection, names: Collection[str]) -> dict[str, Role]:
        """As :meth:`held`; and nobody gives them."""
        return _roles(await connection.fetch(_LOCKED, list(names)))

    async def save(self, connection: Connection, role: Role) -> None:
        """Write a role."""
        await connection.execute(_SAVE, role.name, role.description, list(role.permissions))

    async def remove(self, connection: Connection, name: str) -> None:
        """Delete a locked role."""
        await connection.execute(_REMOVE, name)

    async def who(self, connection: Connection, names: Collection[str]) -> list[str]:
        """The people who have one of these roles, by name."""
        return [row["name"] for row in await connection.fetch(_WHO, list(names))]

    async def moved(self, connection: Connection, person: str) -> None:
        """What others see of a locked person is another thing."""
        await connection.execute(_MOVED, person)

    async def every(self) -> tuple[list[Role], dict[str, int]]:
        """Every declared role by name, and how many people have each role, built in or not."""
        async with self._db.transaction() as connection:
            roles = _roles(await connection.fetch(_EVERY))
            counts = {row["role"]: row["n"] for row in await connection.fetch(_COUNTS)}
        return list(roles.values()), counts


def _roles(rows: list[asyncpg.Record]) -> dict[str, Role]:
    return {
        row["name"]: Role(name=row["name"], description=row["description"], permissions=tuple(row["permissions"]))
        for row in rows
    }
