"""The gateway's SQL: accepted actions and their state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from countersign_chassis import BatchStatement, Connection, Database
from countersign_chassis.tracing import Span
from countersign_contracts.actions import Action, ActionRef, ActionRequested, ActionResult, Reason
from countersign_contracts.envelope import Envelope, source_of

from .lifecycle import Change
from .progress import Heard

# One round trip for a batch. A request id or idempotency key that is already taken inserts nothing: the caller then
# reads the row that took it.
_ACCEPT = BatchStatement(
    """
INSERT INTO action (request_id, agent_id, session_id, env, tool, tool_version, digest, state, channel, idempotency_key,
                    request_sha256, event_body, event_time, event_keyid, event_signature, traceparent,
                    accepted_at, updated_at, drive_at)
SELECT r, a, s, e, t, tv, d, 'accepted', c, k, sha, body, time, keyid, signature, trace, $1, $1, $2
FROM {rows}
ORDER BY n
ON CONFLICT DO NOTHING
RETURNING request_id
""",
    "r uuid, a text, s text, e text, t text, tv int, d text, c text, k text, sha bytea, body bytea, time text,"
    " keyid text, signature bytea, trace text, n int",
    others=2,
)

COLUMNS = """request_id, agent_id, session_id, env, tool, tool_version, digest, state, decision, risk, reason, reasons,
 approval_id, approval, superseded_by, result, status_code, truncated, channel, request_sha256, accepted_at,
 updated_at"""

# `unknown` may still become succeeded or failed by reconciling; every other final state stays.
_APPLY = BatchStatement(
    """
UPDATE action AS a
SET state = u.state, decision = coalesce(u.decision, a.decision), risk = coalesce(u.risk, a.risk),
    reason = u.reason, reasons = u.reasons, approval_id = coalesce(u.approval_id, a.approval_id),
    result = coalesce(u.result, a.result), status_code = coalesce(u.status_code, a.status_code),
    truncated = u.truncated, updated_at = $1::timestamptz,
    drive_at = CASE WHEN u.final THEN NULL ELSE $2::timestamptz END,
    cancel_by = CASE WHEN u.final THEN NULL ELSE a.cancel_by END,
    end_event = CASE WHEN u.final THEN u.event_id END, superseded_by = u.superseded_by
FROM {rows}
WHERE a.request_id = u.request_id
  AND (a.state IN ('accepted', 'held', 'granted', 'executing')
       OR a.state = 'unknown' AND u.state IN ('succeeded', 'failed') AND u.final)
  AND (u.final OR u.rank > CASE a.state WHEN 'accepted' THEN 0 WHEN 'held' THEN 1 WHEN 'granted' THEN 2 ELSE 3 END)
RETURNING a.request_id, a.channel, a.accepted_at, a.approval_id
""",
    "request_id uuid, state text, decision text, risk text, reason text, reasons text, approval_id text, result text,"
    " status_code int, truncated boolean, final boolean, rank int, event_id text, superseded_by uuid",
    others=2,
)

_LATEST_FIRST = "ORDER BY accepted_at DESC, request_id DESC"
_BEFORE = "(accepted_at, request_id) < (SELECT accepted_at, request_id FROM action WHERE request_id = ${})"
_RANK = {"accepted": 0, "held": 1, "granted": 2, "executing": 3}


@dataclass(frozen=True, slots=True)
class Accepted:
    """An action ready to be accepted: the row to be. ``request_sha256`` is keyed (HMAC)."""

    action: Action
    envelope: Envelope
    channel: str
    idempotency_key: str | None
    request_sha256: bytes
    request_text: bytes = field(repr=False)  # never stored: what was asked, as it was
    span: Span | None = field(default=None, repr=False, compare=False)  # of its acceptance, if it is traced


@dataclass(frozen=True, slots=True)
class Changed:
    """An action whose row changed: how it came in, when, and whether people were asked."""

    channel: str
    accepted_at: datetime
    held: bool


@dataclass(frozen=True, slots=True)
class Row:
    """An accepted action as its row has it."""

    result: ActionResult
    channel: str
    request_sha256: bytes
    accepted_at: datetime


@dataclass(frozen=True, slots=True)
class Due:
    """An action that stood still."""

    ref: ActionRef
    state: str
    envelope: Envelope
    drives: int
    cancel_by: str | None
    cancel_reason: str | None


class Store:
    """Actions."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def accept(self, batch: Sequence[Accepted], at: datetime, drive_at: datetime) -> set[str]:
        """Insert what is new; returns the request ids inserted. What is missing was accepted before."""
        async with self._db.hot() as connection:
            return await self.accept_in(connection, batch, at, drive_at)

    async def accept_in(
        self, connection: Connection, batch: Sequence[Accepted], at: datetime, drive_at: datetime
    ) -> set[str]:
        """The same inside a transaction."""
        accepted = [
            (
                UUID(b.action.request_id),
                b.action.agent_id,
                b.action.session_id,
                b.action.env,
                b.action.tool,
                b.action.tool_version,
                b.action.digest,
                b.channel,
                b.idempotency_key,
                b.request_sha256,
                b.envelope.body,
                b.envelope.time,
                b.envelope.keyid,
                b.envelope.signature,
                b.envelope.traceparent,
                place,
            )
            for place, b in enumerate(batch)
        ]
        rows = await _ACCEPT.fetch(connection, accepted, at, drive_at)
        return {str(row["request_id"]) for row in rows}

    async def apply(self, changes: Sequence[Change], at: datetime, drive_at: datetime) -> dict[str, Changed]:
        """Apply what events say; returns the actions that changed, by request id.

        Of several changes to one action in a batch the last one counts; an action that has ended stays as it is.
        """
        async with self._db.hot() as connection:
            return await self.apply_in(connection, changes, at, drive_at)

    async def apply_in(
        self, connection: Connection, changes: Sequence[Change], at: datetime, drive_at: datetime
    ) -> dict[str, Changed]:
        """The same inside a transaction."""
        latest = list({c.ref.request_id: c for c in changes}.values())
        changed = [
            (
                UUID(c.ref.request_id),
                c.state,
                c.decision,
                c.risk,
                c.reason,
                c.reasons_json() if c.reasons else None,
                c.approval_id,
                c.result_json(),
                c.status_code,
                c.truncated,
                c.state not in _RANK,
                _RANK.get(c.state, 9),
                c.event_id,
                c.superseded_by,
            )
            for c in latest
        ]
        rows = await _APPLY.fetch(connection, changed, at, drive_at)
        return {
            str(row["request_id"]): Changed(row["channel"], row["accepted_at"], row["approval_id"] is not None)
            for row in rows
        }

    async def find(self, request_id: str) -> Row | None:
        """One action."""
        row = await self._db.pool.fetchrow(f"SELECT {COLUMNS} FROM action WHERE request_id = $1", UUID(request_id))  # noqa: S608
        return None if row is None else read_row(row)

    async def stop_waiting(self, request_id: str) -> Row | None:
        """A call's wait is over: from now on its agent is told on its results subject. Returns the row.

        One statement decides, whichever replica writes the outcome: either the outcome's write sees that nobody waits,
        or this one finds the action ended, and its row is the answer.
        """
        await self._db.pool.execute(
            "UPDATE action SET channel = 'nats' WHERE request_id = $1 AND channel = 'call'"
            " AND state IN ('accepted', 'held', 'granted', 'executing')",
            UUID(request_id),
        )
        return await self.find(request_id)

    async def ended(self, request_ids: Iterable[str]) -> list[Row]:
        """Those of them that have ended."""
        rows = await self._db.pool.fetch(
            f"SELECT {COLUMNS} FROM action WHERE request_id = ANY($1::uuid[])"  # noqa: S608
            " AND state NOT IN ('accepted', 'held', 'granted', 'executing')",
            [UUID(request_id) for request_id in request_ids],
        )
        return [read_row(row) for row in rows]

    async def find_by_key(self, agent_id: str, key: str) -> Row | None:
        """The action that an agent's idempotency key made."""
        row = await self._db.pool.fetchrow(
            f"SELECT {COLUMNS} FROM action WHERE agent_id = $1 AND idempotency_key = $2",  # noqa: S608
            agent_id,
            key,
        )
        return None if row is None else read_row(row)

    async def action(self, request_id: str) -> Action | None:
        """The whole action, from the event as it was published."""
        body = await self._db.pool.fetchval("SELECT event_body FROM action WHERE request_id = $1", UUID(request_id))
        return None if body is None else ActionRequested.from_bytes(body).action

    async def page(
        self,
        *,
        agent_id: str | None,
        session_id: str | None,
        states: Sequence[str],
        tool: str | None,
        since: datetime | None,
        until: datetime | None,
        before: str | None,
        limit: int,
    ) -> list[Row]:
        """The latest accepted first (agents choose ids); ``before``: the last of the page before. No states: all."""
        filters: list[tuple[str, Any]] = [
            ("agent_id = ${}", agent_id),
            ("session_id = ${}", session_id),
            ("state = ANY(${})", list(states) or None),
            ("tool = ${}", tool),
            ("accepted_at >= ${}", since),
            ("accepted_at < ${}", until),
            (_BEFORE, UUID(before) if before else None),
        ]
        given = [(text, value) for text, value in filters if value is not None]
        where = " AND ".join(text.format(i) for i, (text, _) in enumerate(given, 1)) or "true"
        query = f"SELECT {COLUMNS} FROM action WHERE {where} {_LATEST_FIRST} LIMIT {int(limit)}"  # noqa: S608
        rows = await self._db.pool.fetch(query, *(value for _, value in given))
        return [read_row(row) for row in rows]

    async def ask_cancel(self, request_id: str, by: str, reason: str | None) -> bool:
        """Note that somebody wants it cancelled; false if it has ended already."""
        done: str = await self._db.pool.execute(
            "UPDATE action SET cancel_by = $2, cancel_reason = $3, drive_at = now() + interval '2 seconds'"
            " WHERE request_id = $1 AND state IN ('accepted', 'held', 'granted', 'executing')",
            UUID(request_id),
            by,
            reason,
        )
        return done.endswith(" 1")

    async def forget_cancel(self, request_id: str) -> None:
        """It cannot be cancelled any more."""
        await self._db.pool.execute("UPDATE action SET cancel_by = NULL WHERE request_id = $1", UUID(request_id))

    async def due(self, at: datetime, limit: int, first_s: float, longest_s: float) -> list[Due]:
        """Take actions that stood still, and put off each one's next turn, doubling the pause."""
        rows = await self._db.pool.fetch(
            """
            UPDATE action SET drives = drives + 1,
                   drive_at = $1 + make_interval(secs => least($3 * power(2, least(drives, 20)), $4))
            WHERE request_id IN (SELECT request_id FROM action WHERE drive_at <= $1 ORDER BY drive_at LIMIT $2
                                 FOR UPDATE SKIP LOCKED)
            RETURNING request_id, agent_id, session_id, env, tool, tool_version, digest, state, event_body, event_time,
                      event_keyid, event_signature, traceparent, drives, cancel_by, cancel_reason
            """,
            at,
            limit,
            first_s,
            longest_s,
        )
        return [_due(row) for row in rows]

    async def open_counts(self) -> list[tuple[str, str, int]]:
        """Actions that have not ended: agent, state and how many."""
        rows = await self._db.pool.fetch(
            "SELECT agent_id, state, count(*) AS n FROM action"
            " WHERE drive_at IS NOT NULL AND end_event IS NULL GROUP BY agent_id, state"
        )
        return [(row["agent_id"], row["state"], row["n"]) for row in rows]


def _ref(row: asyncpg.Record) -> ActionRef:
    return ActionRef(
        request_id=str(row["request_id"]),
        agent_id=row["agent_id"],
        session_id=row["session_id"],
        env=row["env"],
        tool=row["tool"],
        tool_version=row["tool_version"],
        digest=row["digest"],
    )


def read_row(row: asyncpg.Record) -> Row:
    """A row as a value; ``row`` has the columns :data:`COLUMNS`."""
    result = ActionResult.of(
        _ref(row),
        row["state"],
        row["updated_at"],
        decision=row["decision"],
        risk=row["risk"],
        reason=row["reason"],
        reasons=tuple(Reason(**reason) for reason in orjson.loads(row["reasons"])) if row["reasons"] else (),
        approval_id=row["approval_id"],
        approval=_approval(row),
        superseded_by=None if row["superseded_by"] is None else str(row["superseded_by"]),
        result=None if row["result"] is None else orjson.loads(row["result"]),
        status_code=row["status_code"],
        truncated=row["truncated"],
    )
    return Row(result, row["channel"], row["request_sha256"], row["accepted_at"])


def _approval(row: asyncpg.Record) -> dict[str, Any] | None:
    """Whom it waits for, while it does."""
    if row["approval"] is None or row["state"] not in ("accepted", "held"):
        return None
    return Heard.from_bytes(row["approval"].encode()).told()


def _due(row: asyncpg.Record) -> Due:
    ref = _ref(row)
    envelope = Envelope(
        id=f"{ref.request_id}.requested",
        type=ActionRequested.spec.type,
        source=source_of("gateway"),
        subject=ref.request_id,
        time=row["event_time"],
        keyid=row["event_keyid"],
        signature=row["event_signature"],
        body=row["event_body"],
        traceparent=row["traceparent"],
    )
    return Due(ref, row["state"], envelope, row["drives"], row["cancel_by"], row["cancel_reason"])
