"""The tables of the catalogue: all of their SQL, and nothing that decides."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from countersign_chassis import Connection, Database
from countersign_contracts.catalogue import Tool, ToolRecord
from countersign_contracts.commands import ChangePlan

from .change import Catalogue

_REVISION = "SELECT revision FROM catalogue"
_TOOLS = "SELECT body, version FROM tools"
_COMMITTED = "SELECT plan FROM catalogue_changes WHERE change_id = $1"
_GROW = "UPDATE catalogue SET revision = revision + 1"
_PUT = """
INSERT INTO tools (name, version, body) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET version = excluded.version, body = excluded.body
"""
_KEEP = "INSERT INTO tool_versions (name, version, body, change_id) VALUES ($1, $2, $3, $4)"
_REMEMBER = "INSERT INTO catalogue_changes (change_id, plan) VALUES ($1, $2)"


class CatalogueStore:
    """The queries."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A transaction for the methods that take a connection."""
        return self._db.transaction()

    async def read(self) -> Catalogue:
        """The catalogue as it is."""
        async with self._db.transaction() as connection:
            return await self.read_in(connection, lock=False)

    async def read_in(self, connection: Connection, *, lock: bool) -> Catalogue:
        """The catalogue; ``lock``: nobody else changes it until the transaction ends."""
        revision = await connection.fetchval(_REVISION + (" FOR UPDATE" if lock else " FOR SHARE"))
        rows = await connection.fetch(_TOOLS)
        records = [
            ToolRecord(tool=Tool.from_bytes(row["body"]), version=row["version"], revision=row["version"])
            for row in rows
        ]
        return Catalogue({record.tool.name: record for record in records}, int(revision))

    async def committed(self, connection: Connection, change_id: str) -> ChangePlan | None:
        """What this change answered when it was committed, if it was."""
        plan = await connection.fetchval(_COMMITTED, change_id)
        return None if plan is None else ChangePlan.from_bytes(plan)

    async def write(
        self, connection: Connection, change_id: str, plan: ChangePlan, records: Sequence[ToolRecord]
    ) -> None:
        """Apply a change."""
        for record in records:
            body = record.tool.to_bytes()
            await connection.execute(_PUT, record.tool.name, record.version, body)
            await connection.execute(_KEEP, record.tool.name, record.version, body, change_id)
        if records:
            await connection.execute(_GROW)
        await connection.execute(_REMEMBER, change_id, plan.to_bytes())
