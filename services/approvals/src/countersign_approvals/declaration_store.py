"""The SQL of what is declared: approval rules and webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from pydantic import TypeAdapter

from countersign_chassis import Connection, Database
from countersign_contracts.approval_rules import ApprovalRule, Webhook
from countersign_contracts.commands import ChangePlan

from .declarations import Declared

_REVISION = "SELECT revision FROM declared"
# in one statement, so that both are of one moment
_REVISION_AND_ALL = """
SELECT r.revision, d.kind, d.version, d.body FROM declared r LEFT JOIN declaration d ON true ORDER BY d.kind, d.name
"""
_COMMITTED = "SELECT plan FROM declared_change WHERE change_id = $1"
_PUT = """
INSERT INTO declaration (kind, name, version, body, change_id) VALUES ($1, $2, $3, $4::text::jsonb, $5)
ON CONFLICT (kind, name) DO UPDATE
SET version = excluded.version, body = excluded.body, change_id = excluded.change_id
"""
_KEEP = """
INSERT INTO declaration_history (kind, name, version, body, change_id) VALUES ($1, $2, $3, $4::text::jsonb, $5)
"""
_GROW = "UPDATE declared SET revision = revision + 1"
_REMEMBER = "INSERT INTO declared_change (change_id, plan) VALUES ($1, $2)"
_MODELS: dict[str, TypeAdapter[ApprovalRule | Webhook]] = {
    "approval_rule": TypeAdapter(ApprovalRule),
    "webhook": TypeAdapter(Webhook),
}


@dataclass(frozen=True, slots=True)
class Declarations:
    """Everything declared, and how often that changed."""

    items: tuple[Declared, ...]
    revision: int

    @property
    def rules(self) -> tuple[Declared, ...]:
        """The approval rules."""
        return tuple(each for each in self.items if isinstance(each.model, ApprovalRule))

    @property
    def webhooks(self) -> tuple[Webhook, ...]:
        """The webhooks."""
        return tuple(each.model for each in self.items if isinstance(each.model, Webhook))


class DeclarationStore:
    """The queries; what was read is kept until it changes."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known = Declarations((), 0)

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A transaction for the methods that take a connection."""
        return self._db.transaction()

    async def read(self) -> Declarations:
        """What is declared now."""
        async with self._db.transaction() as connection:
            return await self.read_in(connection, lock=False)

    async def read_in(self, connection: Connection, *, lock: bool) -> Declarations:
        """What is declared; ``lock``: nobody else changes it until the transaction ends."""
        revision = await connection.fetchval(_REVISION + (" FOR UPDATE" if lock else ""))
        if revision != self._known.revision:
            rows = await connection.fetch(_REVISION_AND_ALL)
            items = tuple(
                Declared(_MODELS[row["kind"]].validate_json(row["body"]), row["version"]) for row in rows if row["kind"]
            )
            self._known = Declarations(items, rows[0]["revision"])
        return self._known

    async def committed(self, connection: Connection, change_id: str) -> ChangePlan | None:
        """What this change answered when it was committed, if it was."""
        plan = await connection.fetchval(_COMMITTED, change_id)
        return None if plan is None else ChangePlan.from_bytes(plan)

    async def write(self, connection: Connection, change_id: str, plan: ChangePlan, items: Sequence[Declared]) -> None:
        """Apply a change."""
        for item in items:
            body = item.model.model_dump_json(by_alias=True, exclude_none=True)
            row = (*item.key, item.version, body, change_id)
            await connection.execute(_PUT, *row)
            await connection.execute(_KEEP, *row)
        if items:
            await connection.execute(_GROW)
        await connection.execute(_REMEMBER, change_id, plan.to_bytes())
