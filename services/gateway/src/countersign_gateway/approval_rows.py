"""What approvals leave in the rows of actions: what was heard of them, and the actions that they were changed into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from countersign_chassis import Database
from countersign_contracts.actions import ActionRequested
from countersign_contracts.approvals import ApprovalEvent

from .lifecycle import Change
from .progress import Heard, hear
from .store import COLUMNS, Accepted, Row, Store, read_row

_WAITING = "state IN ('accepted', 'held')"


@dataclass(frozen=True, slots=True)
class Requested:
    """An accepted action as it was published, and how its agent is told of it."""

    event: ActionRequested
    channel: str
    traceparent: str | None


class NotOfIt(Exception):
    """The request id of the new action belongs to another one."""


class ApprovalRows:
    """The SQL of :mod:`.approvals` and :mod:`.amendments`."""

    def __init__(self, db: Database, store: Store) -> None:
        self._db = db
        self._store = store

    async def heard(self, events: Sequence[ApprovalEvent]) -> list[Row]:
        """Take events about actions that wait; returns the rows that know more now."""
        of: dict[UUID, list[ApprovalEvent]] = {}
        for event in events:
            of.setdefault(UUID(event.about()), []).append(event)
        async with self._db.transaction() as connection:
            rows = await connection.fetch(
                f"SELECT request_id, approval FROM action WHERE request_id = ANY ($1::uuid[]) AND {_WAITING}"  # noqa: S608
                " ORDER BY request_id FOR UPDATE",
                list(of),
            )
            changed: dict[UUID, str] = {}
            for row in rows:
                before = None if row["approval"] is None else Heard.from_bytes(row["approval"].encode())
                known = before
                for event in of[row["request_id"]]:
                    known = hear(known, event)
                if known is not None and known != before:
                    changed[row["request_id"]] = known.to_bytes().decode()
            if not changed:
                return []
            rows = await connection.fetch(
                "UPDATE action AS a SET approval = u.heard"  # noqa: S608
                " FROM unnest($1::uuid[], $2::text[]) AS u (id, heard) WHERE a.request_id = u.id"
                f" RETURNING {COLUMNS}",
                list(changed),
                list(changed.values()),
            )
        return [read_row(row) for row in rows]

    async def requested(self, request_id: str) -> Requested | None:
        """An accepted action."""
        row = await self._db.pool.fetchrow(
            "SELECT event_body, channel, traceparent FROM action WHERE request_id = $1", UUID(request_id)
        )
        if row is None:
            return None
        return Requested(ActionRequested.from_bytes(row["event_body"]), row["channel"], row["traceparent"])

    async def supersede(self, change: Change, new: Accepted, at: datetime, drive_at: datetime) -> bool:
        """End an action and accept what takes its place, or neither; whether that was done now.

        Raises :class:`NotOfIt` if the new one's request id is another action's.
        """
        async with self._db.transaction() as connection:
            if not await self._store.apply_in(connection, [change], at, drive_at):
                return False
            if not await self._store.accept_in(connection, [new], at, drive_at):
                raise NotOfIt(new.action.request_id)
        return True
