"""The table of executions: claims, fences, outcomes. All of its SQL, and nothing that decides.

An attempt is committed here before its call, and its outcome under the fence of that claim alone. Timestamps
that are compared between executors are the database's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg

from countersign_chassis import BatchStatement, Connection, Database

from .recovery import ExecutionRow, State

_CLAIM = "SELECT * FROM claim_executions($1, $2, $3, $4, $5, $6, $7)"

# Only the claim that made the call may say how it ended.
_FINISH = BatchStatement(
    """
UPDATE executions e SET state = u.state, event = u.event, finished_at = u.finished_at, fence = u.new_fence
  FROM {rows}
 WHERE e.request_id = u.request_id AND e.fence = u.fence AND e.state = 'started'
RETURNING e.request_id
""",
    "request_id uuid, fence int, state text, event bytea, finished_at timestamptz, new_fence int",
)

# Nothing ran: the next delivery may claim it again.
_RELEASE = """
UPDATE executions SET state = 'authorised', owner = NULL
 WHERE request_id = $1 AND fence = $2 AND state = 'started'
"""

# A refusal ends what never started; a row that is further on stays as it is.
_REFUSE = """
INSERT INTO executions AS e (request_id, execution_id, digest, state, fence, event, finished_at)
VALUES ($1, $2, $3, 'refused', 0, $4, $5)
ON CONFLICT (request_id) DO UPDATE
   SET state = 'refused', event = excluded.event, finished_at = excluded.finished_at, owner = NULL
 WHERE e.state = 'authorised' AND e.digest = excluded.digest
RETURNING e.request_id
"""

_ROW = "SELECT * FROM executions WHERE request_id = $1"

_HELD = "SELECT EXISTS (SELECT FROM executions WHERE request_id = $1 AND fence = $2 AND state = 'started')"

_TAKE_OVER = """
UPDATE executions SET fence = $2, owner = $3, claimed_at = clock_timestamp() WHERE request_id = $1
"""

_RECONCILE = "UPDATE executions SET reconciled = $2, reconciled_event = $3 WHERE request_id = $1"

_OTHERS_LIVE = """
SELECT EXISTS (
    SELECT FROM owners WHERE owner <> $1 AND seen_at > clock_timestamp() - make_interval(secs => $2)
)
"""

_UNKNOWN_OPEN = "SELECT count(*) FROM executions WHERE state = 'unknown' AND reconciled IS NULL"

# Often, and of no worth after a crash of the database: not worth waiting for its disk.
_SEEN = """
INSERT INTO owners (owner, seen_at)
SELECT $1, clock_timestamp() FROM (SELECT set_config('synchronous_commit', 'off', true)) AS for_this_statement
ON CONFLICT (owner) DO UPDATE SET seen_at = excluded.seen_at
"""

_LIVES = """
SELECT EXISTS (
    SELECT FROM owners WHERE owner = $1 AND seen_at > clock_timestamp() - make_interval(secs => $2)
)
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """What is asked: may this action's call start?"""

    request_id: str
    execution_id: str
    digest: str
    tool: str
    version: int
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claimed:
    """The answer.

    ``stop_id`` where a stop forbids it; ``exists``: the action has a row that a claim cannot take.
    """

    verdict: Literal["claimed", "stopped", "tool_changed", "exists"]
    fence: int = 0
    execution_id: str = ""
    stop_id: str = ""


@dataclass(frozen=True, slots=True)
class Finish:
    """How a claim ended. ``new_fence`` is the row's fence from then on."""

    request_id: str
    fence: int
    state: State
    event: bytes
    finished_at: datetime
    new_fence: int


class Executions:
    """The queries. ``owner`` names this process."""

    def __init__(self, db: Database, owner: str) -> None:
        self._db = db
        self.owner = owner

    async def claim(self, claims: Sequence[Claim]) -> list[Claimed]:
        """Claim a batch; answers in the order asked. No request id may be in it twice."""
        async with self._db.hot() as connection:
            rows = await connection.fetch(
                _CLAIM,
                self.owner,
                [c.request_id for c in claims],
                [c.execution_id for c in claims],
                [c.digest for c in claims],
                [c.tool for c in claims],
                [c.version for c in claims],
                [" ".join(c.scopes) for c in claims],
            )
        return [Claimed(r[0], r[1] or 0, r[2] or "", r[3] or "") for r in rows]

    async def finish(self, ends: Sequence[Finish]) -> list[bool]:
        """Write how claims ended; False where the fence has moved on, so that the result came too late."""
        async with self._db.hot() as connection:
            return await self.finish_in(connection, ends)

    async def finish_in(self, connection: Connection, ends: Sequence[Finish]) -> list[bool]:
        """The same inside a transaction."""
        finished = [(e.request_id, e.fence, e.state, e.event, e.finished_at, e.new_fence) for e in ends]
        rows = await _FINISH.fetch(connection, finished)
        written = {r[0] for r in rows}
        return [UUID(e.request_id) in written for e in ends]

    async def release(self, request_id: str, fence: int) -> None:
        """Give a claim back before its call: the row is ``authorised`` again."""
        async with self._db.connection() as connection:
            await connection.execute(_RELEASE, request_id, fence)

    async def refuse(self, claim: Claim, event: bytes, at: datetime) -> bool:
        """Record a refusal; False where the action has a row that did not wait for a claim."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(_REFUSE, claim.request_id, claim.execution_id, claim.digest, event, at)
        return row is not None

    async def get(self, request_id: str) -> ExecutionRow | None:
        """The row, if there is one."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(_ROW, request_id)
        return None if row is None else read_row(row)

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A transaction for the methods that take a connection."""
        return self._db.transaction()

    async def lock_row(self, connection: Connection, request_id: str) -> ExecutionRow | None:
        """The row, held until the transaction ends."""
        row = await connection.fetchrow(_ROW + " FOR UPDATE", request_id)
        return None if row is None else read_row(row)

    async def lives(self, connection: Connection, owner: str | None, within_s: float) -> bool:
        """Whether an executor showed signs of life; this very process does not count."""
        if owner is None or owner == self.owner:
            return False
        return bool(await connection.fetchval(_LIVES, owner, within_s))

    async def take_over(self, connection: Connection, request_id: str, fence: int) -> None:
        """Claim an interrupted execution under the next fence."""
        await connection.execute(_TAKE_OVER, request_id, fence, self.owner)

    async def still_held(self, request_id: str, fence: int) -> bool:
        """Whether nobody took the claim over."""
        async with self._db.connection() as connection:
            return bool(await connection.fetchval(_HELD, request_id, fence))

    async def reconcile(self, connection: Connection, request_id: str, outcome: str, event: bytes) -> None:
        """Write what was found out."""
        await connection.execute(_RECONCILE, request_id, outcome, event)

    async def others_live(self, within_s: float) -> bool:
        """Whether any other executor showed signs of life within these seconds."""
        async with self._db.connection() as connection:
            return bool(await connection.fetchval(_OTHERS_LIVE, self.owner, within_s))

    async def unknown_open(self) -> int:
        """How many outcomes are unknown and not reconciled."""
        async with self._db.connection() as connection:
            return int(await connection.fetchval(_UNKNOWN_OPEN))

    async def show_life(self) -> None:
        """Say that this executor lives."""
        async with self._db.connection() as connection:
            await connection.execute(_SEEN, self.owner)

    async def forget_the_dead(self) -> None:
        """Drop the names of executors long gone."""
        async with self._db.connection() as connection:
            await connection.execute("DELETE FROM owners WHERE seen_at < clock_timestamp() - interval '1 day'")

    async def say_goodbye(self) -> None:
        """This executor works on nothing any more."""
        async with self._db.connection() as connection:
            await connection.execute("DELETE FROM owners WHERE owner = $1", self.owner)


def read_row(row: asyncpg.Record) -> ExecutionRow:
    """A row as a value."""
    return ExecutionRow(
        request_id=str(row["request_id"]),
        execution_id=row["execution_id"],
        digest=row["digest"],
        state=row["state"],
        fence=row["fence"],
        owner=row["owner"],
        event=row["event"],
        reconciled=row["reconciled"],
        reconciled_event=row["reconciled_event"],
    )
