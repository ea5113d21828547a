"""The registry's SQL for logins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from countersign_chassis import Connection, Database
from countersign_contracts.logins import LoginsRecord, LoginView

_WHO = "SELECT name FROM person WHERE token_sha256 = $1 AND status = 'active'"
_ADD = """
INSERT INTO login (login_id, person, proof, refresh_sha256, started_at, refreshed_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $5, $6)
"""
_FIND = "SELECT * FROM login WHERE login_id = $1"
_OF = "SELECT * FROM login WHERE person = $1 ORDER BY login_id"
_LATEST = """
SELECT * FROM login WHERE ($1::text IS NULL OR person = $1) AND expires_at > $2 ORDER BY login_id DESC LIMIT $3
"""
# Whose refresh token this is, or was.
_HOLDER = """
SELECT login.person, login.login_id FROM login WHERE refresh_sha256 = $1
UNION ALL
SELECT login.person, login.login_id FROM spent_refresh JOIN login USING (login_id) WHERE sha256 = $1
"""
_SPEND = "INSERT INTO spent_refresh (sha256, login_id, spent_at) VALUES ($1, $2, $3)"
_ROTATE = "UPDATE login SET refresh_sha256 = $2, refreshed_at = $3 WHERE login_id = $1"
_END = "DELETE FROM login WHERE login_id = ANY($1::text[])"
_MOVED = "UPDATE person SET logins_revision = logins_revision + 1 WHERE name = $1 RETURNING logins_revision"
_REVISION = "SELECT logins_revision FROM person WHERE name = $1"

_RECORD = """
SELECT name, logins_revision,
       coalesce((SELECT array_agg(login_id ORDER BY login_id) FROM login WHERE person = name), '{}') AS logins
FROM person WHERE logins_revision > 0
"""
_SOME = f"{_RECORD} AND name = ANY($1::text[])"
_AFTER = f"{_RECORD} AND name > $1 ORDER BY name LIMIT $2"


@dataclass(frozen=True, slots=True)
class Login:
    """A login as it is kept: its refresh token as SHA-256."""

    view: LoginView
    refresh_sha256: str


class LoginStore:
    """What takes a connection works in the caller's transaction, in which the person is locked."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def who(self, connection: Connection, token_sha256: str) -> str | None:
        """The name of who has that token now."""
        name: str | None = await connection.fetchval(_WHO, token_sha256)
        return name

    async def holder(self, connection: Connection, refresh_sha256: str) -> tuple[str, str] | None:
        """The person and the login whose refresh token that is, or was."""
        row = await connection.fetchrow(_HOLDER, refresh_sha256)
        return None if row is None else (row["person"], row["login_id"])

    async def find(self, connection: Connection, login_id: str) -> Login | None:
        """That login, if it has not ended."""
        row = await connection.fetchrow(_FIND, login_id)
        return None if row is None else Login(_view(row), row["refresh_sha256"])

    async def of(self, connection: Connection, person: str) -> list[LoginView]:
        """The person's logins, the oldest first, also those whose time is over."""
        return [_view(row) for row in await connection.fetch(_OF, person)]

    async def latest(self, person: str | None, at: datetime, limit: int) -> list[LoginView]:
        """Logins whose time is not over, the latest first."""
        return [_view(row) for row in await self._db.pool.fetch(_LATEST, person, at, limit)]

    async def add(self, connection: Connection, view: LoginView, refresh_sha256: str) -> None:
        """Insert a login."""
        await connection.execute(
            _ADD, view.login_id, view.name, view.proof, refresh_sha256, view.started_at, view.expires_at
        )

    async def rotate(self, connection: Connection, login: Login, refresh_sha256: str, at: datetime) -> None:
        """Another refresh token counts; the one before is known as spent."""
        await connection.execute(_SPEND, login.refresh_sha256, login.view.login_id, at)
        await connection.execute(_ROTATE, login.view.login_id, refresh_sha256, at)

    async def end(self, connection: Connection, login_ids: Sequence[str]) -> None:
        """Delete logins and their refresh tokens."""
        await connection.execute(_END, login_ids)

    async def moved(self, connection: Connection, person: str) -> int:
        """The next revision of the person's record, since their logins changed."""
        revision: int = await connection.fetchval(_MOVED, person)
        return revision

    async def revision(self, connection: Connection, person: str) -> int:
        """The revision of the person's record."""
        revision: int = await connection.fetchval(_REVISION, person)
        return revision

    async def some(self, connection: Connection, names: Sequence[str]) -> dict[str, LoginsRecord]:
        """The records of those of ``names`` who ever logged in."""
        return {row["name"]: _record(row) for row in await connection.fetch(_SOME, names)}

    async def after(self, connection: Connection, name: str, limit: int) -> dict[str, LoginsRecord]:
        """The next records by name."""
        return {row["name"]: _record(row) for row in await connection.fetch(_AFTER, name, limit)}


def _view(row: asyncpg.Record) -> LoginView:
    return LoginView(
        login_id=row["login_id"],
        name=row["person"],
        proof=row["proof"],
        started_at=row["started_at"],
        refreshed_at=row["refreshed_at"],
        expires_at=row["expires_at"],
    )


def _record(row: asyncpg.Record) -> LoginsRecord:
    return LoginsRecord(name=row["name"], logins=tuple(row["logins"]), revision=row["logins_revision"])
