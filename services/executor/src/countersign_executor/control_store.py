"""The tables of stops and announcements: all of their SQL, and nothing that decides."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime

import asyncpg

from countersign_chassis import Connection, Database
from countersign_contracts.control import Stop
from countersign_contracts.errors import Unavailable
from countersign_contracts.event import Event

# Claims hold this lock shared: whoever gets it alone knows that every claim made so far has committed, and
# that every
# later one will see what he commits.
_LOCK_CLAIMS_OUT = "SELECT pg_advisory_xact_lock(hashtext(current_schema() || '.stops'))"
_LOCK_STOPS_OUT = "SELECT pg_advisory_xact_lock_shared(hashtext(current_schema() || '.stops'))"

# The same order again is the one that is in force.
_SET = """
INSERT INTO stops (stop_id, scope, reason, set_by, set_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (scope, set_by, md5(reason)) WHERE lifted_at IS NULL DO NOTHING
RETURNING *
"""
_SAME = "SELECT * FROM stops WHERE scope = $1 AND set_by = $2 AND reason = $3 AND lifted_at IS NULL"
_LIFT = "UPDATE stops SET lifted_by = $2, lifted_at = $3 WHERE stop_id = $1 AND lifted_at IS NULL RETURNING *"
_ONE = "SELECT * FROM stops WHERE stop_id = $1"
_IN_FORCE = "SELECT * FROM stops WHERE lifted_at IS NULL ORDER BY set_at"
_COVERING = "SELECT * FROM stops WHERE lifted_at IS NULL AND scope = ANY ($1) ORDER BY set_at LIMIT 1"
_LIFTED = "SELECT * FROM stops WHERE lifted_at IS NOT NULL ORDER BY lifted_at DESC LIMIT $1"

_ANNOUNCE = "INSERT INTO announcements (type, body) VALUES ($1, $2)"
_PENDING = "SELECT id, type, body FROM announcements WHERE id > $1 ORDER BY id LIMIT 100"
_ANNOUNCED = "DELETE FROM announcements WHERE id = ANY ($1)"

#: How many lifted stops are listed and projected: the latest.
LIFTED_KEPT = 500


class ControlStore:
    """The queries."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A transaction for the methods that take a connection."""
        return self._db.transaction()

    async def lock_claims_out(self, connection: Connection) -> None:
        """Every claim made so far has committed; none commits until this transaction ends."""
        await connection.execute(_LOCK_CLAIMS_OUT)

    async def lock_stops_out(self, connection: Connection) -> None:
        """No stop is set until this transaction ends; those read from here on are all there are."""
        await connection.execute(_LOCK_STOPS_OUT)

    async def set_stop(self, connection: Connection, stop: Stop) -> tuple[Stop, bool]:
        """Write the stop; if the same order is in force, that one. The second value: whether it is new."""
        row = await connection.fetchrow(_SET, stop.stop_id, stop.scope, stop.reason, stop.set_by, stop.set_at)
        if row is not None:
            return _stop(row), True
        same = await connection.fetchrow(_SAME, stop.scope, stop.set_by, stop.reason)
        if same is None:  # lifted in between: nobody's fault, and not in force
            raise Unavailable("the same stop was lifted at this moment; set it again")
        return _stop(same), False

    async def lift_stop(self, connection: Connection, stop_id: str, by: str, at: datetime) -> tuple[Stop | None, bool]:
        """Lift the stop; None if there is none of that id. The second value: whether this lifted it."""
        row = await connection.fetchrow(_LIFT, stop_id, by, at)
        if row is not None:
            return _stop(row), True
        row = await connection.fetchrow(_ONE, stop_id)
        return (None if row is None else _stop(row)), False

    async def stops(self, *, lifted: bool) -> list[Stop]:
        """The stops in force, oldest first; then the latest lifted ones if asked for."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(_IN_FORCE)
            if lifted:
                rows += await connection.fetch(_LIFTED, LIFTED_KEPT)
        return [_stop(row) for row in rows]

    async def covering(self, connection: Connection, scopes: Sequence[str]) -> Stop | None:
        """A stop in force over any of ``scopes``."""
        row = await connection.fetchrow(_COVERING, list(scopes))
        return None if row is None else _stop(row)

    async def stop(self, stop_id: str) -> Stop | None:
        """The stop of that id."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(_ONE, stop_id)
        return None if row is None else _stop(row)

    async def announce(self, connection: Connection, event: Event) -> None:
        """Promise that the bus will hear ``event``, in the transaction that makes it true."""
        await connection.execute(_ANNOUNCE, event.spec.type, event.to_bytes())

    async def pending(self, after: int) -> list[tuple[int, str, bytes]]:
        """What the bus has yet to hear, oldest first: id, event type, body."""
        async with self._db.connection() as connection:
            return [(r["id"], r["type"], r["body"]) for r in await connection.fetch(_PENDING, after)]

    async def announced(self, ids: Sequence[int]) -> None:
        """The bus has them."""
        async with self._db.connection() as connection:
            await connection.execute(_ANNOUNCED, list(ids))


def _stop(row: asyncpg.Record) -> Stop:
    return Stop(
        stop_id=row["stop_id"],
        scope=row["scope"],
        reason=row["reason"],
        set_by=row["set_by"],
        set_at=row["set_at"],
        lifted_by=row["lifted_by"],
        lifted_at=row["lifted_at"],
        revision=1 if row["lifted_at"] is None else 2,
    )
