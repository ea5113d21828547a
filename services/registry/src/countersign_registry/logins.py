"""Logins: a proof of who one is, exchanged for access tokens that last minutes and the refresh token that gets more.

Each refresh token counts once. One that comes again was copied: whoever of the two has the later one cannot be told, so
the whole login ends (RFC 9700 section 4.14.2).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from prometheus_client import Counter

from countersign_chassis import Connection
from countersign_contracts import access_token
from countersign_contracts.enrolment import token_sha256
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.event import Event
from countersign_contracts.fleet import PersonRecord
from countersign_contracts.ids import prefixed
from countersign_contracts.logins import (
    EndedLogin,
    EndLogin,
    IssuedAccess,
    ListLogins,
    LogIn,
    LoginEnd,
    LoginEnded,
    LoginProof,
    Logins,
    LoginStarted,
    LoginView,
    RefreshLogin,
)
from countersign_ledger import SigningKey

from .aftermath import Aftermath
from .login_store import LoginStore
from .outbox import Outbox
from .people_store import PeopleStore

#: Of one person; beyond, the oldest end.
MAX_LOGINS = 32
_LOGIN = "`countersign login` starts another login"


def new_refresh_token() -> str:
    """256 random bits."""
    return f"csr_{secrets.token_urlsafe(32)}"


class LoginEnds:
    """Ends logins in the transaction of whatever else ends: a person, their token."""

    def __init__(self, store: LoginStore, outbox: Outbox, ended: Counter) -> None:
        self._store = store
        self._outbox = outbox
        self._ended = ended

    async def all_of(self, connection: Connection, person: str, reason: LoginEnd, by: str, at: datetime) -> None:
        """End every login of a locked person."""
        await self.end(connection, await self._store.of(connection, person), reason, by, at)

    async def end(
        self, connection: Connection, logins: Sequence[LoginView], reason: LoginEnd, by: str, at: datetime
    ) -> None:
        """End these logins of one locked person; what of them ended by itself is not told."""
        if not logins:
            return
        await self._store.end(connection, [login.login_id for login in logins])
        await self._store.moved(connection, logins[0].name)
        told: list[Event] = [
            LoginEnded(login_id=login.login_id, person=login.name, at=at, reason=reason, by=by)
            for login in logins
            if login.expires_at > at
        ]
        await self._outbox.add(connection, told)
        self._ended.labels(reason).inc(len(told))


class LoginCommands:
    """Answers the commands about logins."""

    def __init__(
        self,
        store: LoginStore,
        people: PeopleStore,
        ends: LoginEnds,
        outbox: Outbox,
        aftermath: Aftermath,
        key: SigningKey,
        *,
        access_s: int,
        login_s: int,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._people = people
        self._ends = ends
        self._outbox = outbox
        self._aftermath = aftermath
        self._key = key
        self._access = timedelta(seconds=access_s)
        self._login = timedelta(seconds=login_s)
        self._clock = clock

    async def log_in(self, command: LogIn) -> IssuedAccess:
        """Start a login with a person's token."""
        async with self._people.transaction() as connection:
            name = await self._store.who(connection, command.token_sha256)
            person = None if name is None else await self._people.lock(connection, name)
            # again, now that nobody else changes them
            if person is None or person.status != "active" or person.token_sha256 != command.token_sha256:
                raise CountersignError(
                    "this is no person's token, or it is void: an admin gives one with `countersign people add`",
                    code="unauthenticated",
                )
            issued = await self.start(connection, person, "token")
        await self.shown(person.name, command.rpc.timeout_s - 1)
        return issued

    async def start(self, connection: Connection, person: PersonRecord, proof: LoginProof) -> IssuedAccess:
        """A login of a locked person who has proven who they are; :meth:`shown` after the transaction."""
        at = self._clock()
        view = LoginView(
            login_id=prefixed("lgn"),
            name=person.name,
            proof=proof,
            started_at=at,
            refreshed_at=at,
            expires_at=at.replace(microsecond=0) + self._login,
        )
        refresh_token = new_refresh_token()
        await self._tidy(connection, person.name, at)
        await self._store.add(connection, view, token_sha256(refresh_token))
        revision = await self._store.moved(connection, person.name)
        await self._outbox.add(
            connection,
            [
                LoginStarted(
                    login_id=view.login_id, person=view.name, at=at, proof=view.proof, expires_at=view.expires_at
                )
            ],
        )
        return self._issued(person, view, refresh_token, revision, at)

    async def refresh(self, command: RefreshLogin) -> IssuedAccess:
        """The next tokens of a login."""
        at = self._clock()
        async with self._people.transaction() as connection:
            held = await self._store.holder(connection, command.refresh_sha256)
            person = None if held is None else await self._people.lock(connection, held[0])
            # again, now that nobody else changes them
            login = None if held is None else await self._store.find(connection, held[1])
            if person is None or login is None or person.status != "active":
                raise CountersignError(f"the refresh token is not known, or void; {_LOGIN}", code="unauthenticated")
            if login.refresh_sha256 != command.refresh_sha256:
                await self._ends.end(connection, [login.view], "reused", "registry", at)
            elif login.view.expires_at <= at:
                raise CountersignError(
                    f"the login ended at {login.view.expires_at:%Y-%m-%d %H:%M} UTC; {_LOGIN}", code="unauthenticated"
                )
            else:
                refresh_token = new_refresh_token()
                await self._store.rotate(connection, login, token_sha256(refresh_token), at)
                revision = await self._store.revision(connection, person.name)
                return self._issued(person, login.view, refresh_token, revision, at)
        # committed before it is refused: nothing of this login may count any more
        await self.shown(person.name, command.rpc.timeout_s - 1)
        raise CountersignError(
            "the refresh token was used before, so somebody has a copy: the whole login has ended, and the ledger says"
            f" so; {_LOGIN}",
            code="unauthenticated",
        )

    async def listed(self, command: ListLogins) -> Logins:
        """Logins that have not ended, the latest first."""
        return Logins(items=tuple(await self._store.latest(command.name, self._clock(), command.limit)))

    async def end(self, command: EndLogin) -> EndedLogin:
        """None of the login's tokens counts any more when this returns.

        Raises `not_found` for one that is another's; and :class:`Unavailable` if the gateways are not told yet.
        """
        async with self._people.transaction() as connection:
            login = await self._store.find(connection, command.login_id)
            if login is None:
                return EndedLogin()
            name = login.view.name
            if command.of not in (None, name):
                raise CountersignError(
                    f"you have no login `{command.login_id}`; GET /api/v1/tokens lists yours", code="not_found"
                )
            await self._people.lock(connection, name)
            # again, now that nobody else changes them
            if await self._store.find(connection, command.login_id) is not None:
                await self._ends.end(connection, [login.view], "revoked", command.by, self._clock())
            revision = await self._store.revision(connection, name)
        if behind := await self._behind(name, command.rpc.timeout_s - 1):
            raise Unavailable(
                f"login `{command.login_id}` has ended; but gateways may not have heard of it yet: {'; '.join(behind)}."
                " It is retried until they have"
            )
        return EndedLogin(name=name, revision=revision)

    async def shown(self, name: str, within_s: float) -> None:
        """See to it that the gateways know; what they do not hear now they do later."""
        await self._behind(name, within_s)

    async def _behind(self, name: str, within_s: float) -> list[str]:
        return await self._aftermath.of(within_s=within_s, logins=[name])

    async def _tidy(self, connection: Connection, person: str, at: datetime) -> None:
        """Room for one more: what has ended by itself goes, and then the oldest."""
        logins = await self._store.of(connection, person)
        live = [login for login in logins if login.expires_at > at]
        over = [login for login in logins if login.expires_at <= at] + live[: max(0, len(live) - MAX_LOGINS + 1)]
        await self._ends.end(connection, over, "replaced", "registry", at)

    def _issued(
        self, person: PersonRecord, login: LoginView, refresh_token: str, revision: int, at: datetime
    ) -> IssuedAccess:
        token, ends = access_token.issue(
            person.name,
            login.login_id,
            revision,
            at=at,
            until=min(at + self._access, login.expires_at),
            key=self._key,
        )
        return IssuedAccess(
            login_id=login.login_id,
            name=person.name,
            roles=person.roles,
            access_token=token,
            expires_at=ends,
            refresh_token=refresh_token,
            refresh_expires_at=login.expires_at,
            revision=revision,
        )
