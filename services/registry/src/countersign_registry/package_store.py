"""The registry's SQL for packages of agents, and for what is wrong in their folders."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import orjson

from countersign_chassis import Connection, Database
from countersign_contracts.catalogue import FileError
from countersign_contracts.packages import AgentPackage, PackageView

from .discovery import Difference

_ALL = "SELECT agent_type, body FROM package"
_PAGE = """
SELECT p.*, (SELECT count(*) FROM agent a WHERE a.agent_type = p.agent_type AND a.status <> 'revoked') AS agents
FROM package p WHERE agent_type > $1 ORDER BY agent_type LIMIT $2
"""
_ADD = "INSERT INTO package (agent_type, body, discovered_at, changed_at) VALUES ($1, $2, $3, $3)"
_CHANGE = "UPDATE package SET body = $2, changed_at = $3 WHERE agent_type = $1"
_REMOVE = "DELETE FROM package WHERE agent_type = ANY($1::text[])"
_LOOKED = "SELECT folders, errors FROM package_scan"
_LOOK = """
INSERT INTO package_scan (folders, errors) VALUES ($1, $2)
ON CONFLICT (singleton) DO UPDATE SET folders = excluded.folders, errors = excluded.errors
WHERE (package_scan.folders, package_scan.errors) IS DISTINCT FROM (excluded.folders, excluded.errors)
"""


class PackageStore:
    """What takes a connection works in the caller's transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def all(self, connection: Connection) -> dict[str, AgentPackage]:
        """Every package by its type."""
        rows = await connection.fetch(_ALL)
        return {row["agent_type"]: AgentPackage.from_bytes(row["body"].encode()) for row in rows}

    async def page(self, after: str, limit: int) -> list[PackageView]:
        """Packages by type, those after ``after``."""
        return [
            PackageView(
                package=AgentPackage.from_bytes(row["body"].encode()),
                discovered_at=row["discovered_at"],
                changed_at=row["changed_at"],
                agents=row["agents"],
            )
            for row in await self._db.pool.fetch(_PAGE, after, limit)
        ]

    async def apply(self, connection: Connection, different: Difference, at: datetime) -> None:
        """Write what a scan found."""
        added = [(package.agent_type, package.to_bytes().decode(), at) for package in different.new]
        changed = [(package.agent_type, package.to_bytes().decode(), at) for _, package in different.changed]
        await connection.executemany(_ADD, added)
        await connection.executemany(_CHANGE, changed)
        await connection.execute(_REMOVE, [package.agent_type for package in different.gone])

    async def look(self, connection: Connection, folders: Sequence[str], errors: Sequence[FileError]) -> None:
        """Which folders were scanned, and what is wrong in them."""
        said = [error.model_dump(exclude_none=True) for error in errors]
        await connection.execute(_LOOK, list(folders), orjson.dumps(said).decode())

    async def looked(self) -> tuple[tuple[str, ...], tuple[FileError, ...]]:
        """The same, as it was written last."""
        row = await self._db.pool.fetchrow(_LOOKED)
        if row is None:
            return (), ()
        return tuple(row["folders"]), tuple(FileError.model_validate(each) for each in orjson.loads(row["errors"]))
