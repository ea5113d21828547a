"""The SQL of what is declared: profiles, hand-written policies, their history, and the changes' events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from countersign_chassis import Database
from countersign_contracts.control import PoliciesChanged
from countersign_contracts.envelope import Envelope, source_of

# The set and its version in one statement, so that both are of one moment.
_LOAD = """
SELECT p.version, d.kind, d.name, d.body, d.revision
FROM policy_set p LEFT JOIN declaration d ON true
ORDER BY d.kind, d.name
"""

_BEGIN = """
INSERT INTO policy_set (version, changed_at) VALUES ($1, $2) ON CONFLICT (the_one) DO NOTHING
"""

_LOCK = "SELECT version FROM policy_set FOR UPDATE"

_DECLARE = """
INSERT INTO declaration (kind, name, body, revision, change_id)
SELECT g.*, 1, $4 FROM unnest($1::text[], $2::text[], $3::text[]) AS g
ON CONFLICT (kind, name) DO UPDATE
SET body = excluded.body, revision = declaration.revision + 1, change_id = excluded.change_id
"""

_KEEP = """
INSERT INTO declaration_history (kind, name, revision, body, change_id)
SELECT kind, name, revision, body, change_id FROM declaration WHERE change_id = $1
"""

_SET_VERSION = "UPDATE policy_set SET version = $1, changed_at = $2"

_RECORD = """
INSERT INTO policy_change (change_id, base, version, by, at, event_type, event_time, keyid, signature, body)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""

_CHANGE = "SELECT base, body FROM policy_change WHERE change_id = $1"

_UNPUBLISHED = """
SELECT change_id, event_type, event_time, keyid, signature, body
FROM policy_change WHERE published_at IS NULL ORDER BY at
"""

_PUBLISHED = "UPDATE policy_change SET published_at = $2 WHERE change_id = ANY ($1)"


@dataclass(frozen=True, slots=True)
class Declared:
    """One declared profile or policy as stored."""

    kind: Literal["profile", "policy"]
    name: str
    body: str
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Loaded:
    """Everything declared, and the version of the set it makes."""

    version: str
    items: tuple[Declared, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A change to be written: what is new, the version it leads to, and its sealed event."""

    change_id: str
    base: str
    version: str
    by: str
    at: datetime
    items: Sequence[Declared]
    envelope: Envelope


class Declarations:
    """What is declared, and the changes that led there."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def begin(self, version: str, at: datetime) -> None:
        """On an empty database: the empty set is in force, under ``version``."""
        async with self._db.connection() as connection:
            await connection.execute(_BEGIN, version, at)

    async def load(self) -> Loaded:
        """Everything declared."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(_LOAD)
        if not rows:
            raise RuntimeError("there is no policy set; the service makes one at start")
        items = tuple(Declared(r["kind"], r["name"], r["body"], r["revision"]) for r in rows if r["name"])
        return Loaded(rows[0]["version"], items)

    async def commit(self, change: Change) -> str | None:
        """Write ``change`` if its base is still in force; returns the version in force if it is not."""
        async with self._db.transaction() as connection:
            version = await connection.fetchval(_LOCK)
            if version != change.base:
                return str(version)
            await connection.execute(
                _DECLARE,
                [item.kind for item in change.items],
                [item.name for item in change.items],
                [item.body for item in change.items],
                change.change_id,
            )
            await connection.execute(_KEEP, change.change_id)
            await connection.execute(_SET_VERSION, change.version, change.at)
            envelope = change.envelope
            await connection.execute(
                _RECORD,
                change.change_id,
                change.base,
                change.version,
                change.by,
                change.at,
                envelope.type,
                envelope.time,
                envelope.keyid,
                envelope.signature,
                envelope.body,
            )
        return None

    async def change(self, change_id: str) -> tuple[str, PoliciesChanged] | None:
        """The base and the event of a change that was written."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(_CHANGE, change_id)
        return None if row is None else (row["base"], PoliciesChanged.from_bytes(row["body"]))

    async def unpublished(self) -> list[Envelope]:
        """The events of changes that the stream has not confirmed yet."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(_UNPUBLISHED)
        return [
            Envelope(
                id=f"{row['change_id']}.{PoliciesChanged.spec.name}",
                type=row["event_type"],
                source=source_of("policy"),
                subject=row["change_id"],
                time=row["event_time"],
                keyid=row["keyid"],
                signature=row["signature"],
                body=row["body"],
            )
            for row in rows
        ]

    async def published(self, change_ids: Sequence[str], at: datetime) -> None:
        """The stream has the events of these changes."""
        async with self._db.connection() as connection:
            await connection.execute(_PUBLISHED, change_ids, at)
