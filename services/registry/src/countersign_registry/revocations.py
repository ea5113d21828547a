"""Void NATS users: refused by nats-server, and their connections dropped.

The rows of void credentials are the truth. From them and from account AGENTS as bootstrap made it follows the account's
JWT; it is pushed through the system account until nats-server confirms that it is in use. It is pushed again at start,
after every reconnect and now and then, since nats-server's store of accounts may be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import nats.errors
from prometheus_client import Counter, Gauge

from countersign_chassis import Coalescer
from countersign_chassis.connection import NatsConnection
from countersign_chassis.natsauth import KeyPair, NatsAuthError, push_account, read_claims, with_revocations
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.model import now

from .nats_users import AgentsAccount
from .settings import Settings
from .store import Lock, Store

_READ = "SELECT jwt FROM agents_account"
_WRITE = "INSERT INTO agents_account (jwt) VALUES ($1) ON CONFLICT (singleton) DO UPDATE SET jwt = excluded.jwt"

_RETRY_S = 1.0


def account_with(base: str, previous: str | None, signer: KeyPair, revocations: Mapping[str, int], at: int) -> str:
    """The account's JWT with ``revocations`` at unix second ``at``: ``previous`` itself, if it says just that.

    A new one is issued later than ``base`` and ``previous``: of two, a restarting nats-server keeps the later one.
    """
    latest = int(read_claims(base)["iat"])
    if previous is not None:
        issued_at = int(read_claims(previous)["iat"])
        if issued_at > latest and with_revocations(base, signer, revocations, issued_at=issued_at) == previous:
            return previous
        latest = max(latest, issued_at)
    return with_revocations(base, signer, revocations, issued_at=max(at, latest + 1))


class Revocations:
    """Keeps account AGENTS on nats-server as the rows want it."""

    def __init__(
        self,
        account: AgentsAccount,
        settings: Settings,
        store: Store,
        system: NatsConnection,
        *,
        check_s: float,
        answer_s: float,
        pushes: Counter,
        in_force: Gauge,
        log: Any,
    ) -> None:
        self._account = account
        self._settings = settings
        self._store = store
        self._system = system
        self._check_s = check_s
        self._answer_s = answer_s
        self._pushes = pushes
        self._in_force = in_force
        self._log = log
        self._behind: str | None = "not pushed yet"
        self._wanted = asyncio.Event()
        # concurrent orders share one push, which begins after all of them were committed
        self._enforce: Coalescer[None, None] = Coalescer(self._push)

    def unready(self) -> str | None:
        """Why nats-server may not refuse a void user now, if so."""
        return self._behind

    async def enforce(self) -> None:
        """Return once nats-server refuses every user that is void now, and has dropped its connections.

        Raises :class:`Unavailable` if it does not confirm that; :meth:`run` goes on trying.
        """
        await self._enforce.submit(None)

    async def start(self) -> None:
        """Push; where that cannot be, :meth:`run` goes on trying."""
        try:
            await self.enforce()
        except Unavailable as error:
            self._log.warning("account AGENTS is not pushed yet", reason=error.detail)

    async def restarted(self) -> None:
        """The connection to nats-server came back, maybe to one that knows only what bootstrap configured."""
        self._behind = "not pushed since nats-server came back"
        self._wanted.set()

    async def run(self) -> None:
        """Push what is not confirmed, and now and then what is, for ever."""
        while True:
            self._wanted.clear()
            pause = _RETRY_S if self._behind else self._check_s
            try:
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            await self.enforce()

    async def _push(self, asked: Sequence[None]) -> list[None]:
        try:
            await self._push_now()
        except Unavailable as error:
            self._behind = error.detail
            self._wanted.set()
            self._pushes.labels("failed").inc()
            raise
        except BaseException as error:
            self._behind = str(error) or type(error).__name__
            self._wanted.set()
            raise
        self._behind = None
        self._pushes.labels("confirmed").inc()
        return list(asked)

    def _reread(self) -> None:
        """Take up keys that were added, used or retired: the same files, as bootstrap wrote them since."""
        try:
            if self._account.reread(self._settings):
                self._log.info("the keys of account AGENTS changed; it is pushed anew")
        except CountersignError as error:
            self._log.warning("the keys of account AGENTS cannot be read; it stays as it was", reason=error.detail)

    async def _push_now(self) -> None:
        if not self._system.connected:
            raise Unavailable("nats-server does not answer")
        self._reread()
        # one registry at a time from the rows to the confirmation: an older JWT must not replace a newer one
        async with self._store.alone(Lock.ACCOUNT) as connection:
            async with connection.transaction():
                at = now()
                revocations = await self._store.revocations(connection, at)
                previous = await connection.fetchval(_READ)
                account = self._account
                jwt = account_with(account.base, previous, account.operator_signing, revocations, int(at.timestamp()))
                if jwt != previous:
                    await connection.execute(_WRITE, jwt)
            try:
                await push_account(self._system.client, jwt, timeout_seconds=self._answer_s)
            except (NatsAuthError, nats.errors.Error, OSError) as error:
                raise Unavailable(f"nats-server has not confirmed account AGENTS: {error}") from None
        self._in_force.set(len(revocations))
