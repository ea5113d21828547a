"""What lets somebody prove who they are from now on takes a login of the last minutes, or the person's own token.

An access token goes with every request, and may end up where it was not meant for. It must not be enough to get a proof
that outlasts it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from countersign_chassis import Connection
from countersign_contracts.errors import CountersignError

from .login_store import LoginStore

#: How long after it began a login is good for that.
FRESH = timedelta(minutes=5)


class FreshLogins:
    """Looks up when a login began."""

    def __init__(self, store: LoginStore, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    async def require(self, connection: Connection, name: str, login_id: str | None) -> None:
        """Raises `fresh_login` unless ``login_id`` is one of that person's, begun in the last minutes.

        None stands for the person's own token: who has that needs no other proof.
        """
        if login_id is None:
            return
        login, at = await self._store.find(connection, login_id), self._clock()
        if login is None or login.view.name != name:
            raise CountersignError(
                "this login has ended; log in (`countersign login`), then do this within"
                f" {FRESH.seconds // 60} minutes",
                code="fresh_login",
            )
        if (age := at - login.view.started_at) > FRESH:
            raise CountersignError(
                "what proves from now on who somebody is takes a fresh login, and this one began"
                f" {age.total_seconds() / 60:.0f} minutes ago: log in again (`countersign login`), then do this within"
                f" {FRESH.seconds // 60} minutes",
                code="fresh_login",
            )
