"""Commands about observers: NATS users that can ask which agents run, and nothing else (see `service_api`)."""

from __future__ import annotations

from datetime import timedelta

import asyncpg

from countersign_chassis import Database
from countersign_contracts import subjects
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now
from countersign_contracts.observation import (
    IssuedObserver,
    IssueObserver,
    ListObservers,
    Observer,
    ObserverIssued,
    ObserverRevoked,
    Observers,
    RevokeObserver,
)

from .aftermath import Aftermath
from .nats_users import AgentsAccount
from .outbox import Outbox
from .store import Store

_ADD = """
INSERT INTO observer (observer_id, nkey, created_at, created_by, expires_at) VALUES ($1, $2, $3, $4, $5)
"""
_FORGET = "DELETE FROM observer WHERE expires_at < $1"
_LATEST = "SELECT * FROM observer WHERE $1::text IS NULL OR observer_id < $1 ORDER BY observer_id DESC LIMIT $2"
_LOCK = "SELECT * FROM observer WHERE observer_id = $1 FOR UPDATE"
_REVOKE = "UPDATE observer SET revoked_at = $2, revoked_by = $3 WHERE observer_id = $1"

#: How long those that ended are listed.
_KEEP = timedelta(days=1)


class ObserverCommands:
    """Answers :class:`IssueObserver`, :class:`ListObservers` and :class:`RevokeObserver`."""

    def __init__(
        self, store: Store, db: Database, outbox: Outbox, aftermath: Aftermath, account: AgentsAccount
    ) -> None:
        self._store = store
        self._db = db
        self._outbox = outbox
        self._aftermath = aftermath
        self._account = account

    async def issue(self, command: IssueObserver) -> IssuedObserver:
        """A NATS user that can ask which agents run, and nothing else."""
        at, observer_id = now(), prefixed("obs")
        expires_at = at.replace(microsecond=0) + timedelta(seconds=command.lifetime_s)
        nkey, creds = self._account.new_observer(observer_id, at, expires_at)
        async with self._store.transaction() as connection:
            await connection.execute(_FORGET, at - _KEEP)
            await connection.execute(_ADD, observer_id, nkey, at, command.by, expires_at)
            told = ObserverIssued(observer_id=observer_id, by=command.by, at=at, expires_at=expires_at)
            await self._outbox.add(connection, [told])
        self._outbox.wake()
        return IssuedObserver(
            observer_id=observer_id,
            nats_creds=creds,
            inbox_prefix=subjects.observer_inbox(observer_id),
            expires_at=expires_at,
        )

    async def list(self, command: ListObservers) -> Observers:
        """The latest first; those that ended for a day."""
        found = [_observer(row) for row in await self._db.pool.fetch(_LATEST, command.after, command.limit + 1)]
        items = tuple(found[: command.limit])
        return Observers(items=items, next=items[-1].observer_id if len(found) > command.limit else None)

    async def revoke(self, command: RevokeObserver) -> Observer:
        """It asks nothing more when this returns, and its connections are gone. Again is harmless.

        Raises `not_found`, and :class:`Unavailable` if nats-server has not confirmed that yet.
        """
        at = now()
        async with self._store.transaction() as connection:
            row = await connection.fetchrow(_LOCK, command.observer_id)
            if row is None:
                raise CountersignError(
                    f"there is no observer `{command.observer_id}`; `countersign agents observers list` shows them",
                    code="not_found",
                )
            observer = _observer(row)
            if observer.revoked_at is None:
                observer = observer.model_copy(update={"revoked_at": at, "revoked_by": command.by})
                await connection.execute(_REVOKE, observer.observer_id, at, command.by)
                told = ObserverRevoked(observer_id=observer.observer_id, by=command.by, at=at)
                await self._outbox.add(connection, [told])
        behind = await self._aftermath.of(within_s=command.rpc.timeout_s - 1, revoke=True)
        if behind:
            raise Unavailable(
                f"observer `{observer.observer_id}` is revoked, and stays so; but its NATS user may still connect:"
                f" {'; '.join(behind)}. It is retried until it may not"
            )
        return observer


def _observer(row: asyncpg.Record) -> Observer:
    return Observer(
        observer_id=row["observer_id"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        revoked_by=row["revoked_by"],
    )
