"""The agent's side of Countersign."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from countersign_contracts.actions import FINAL_STATES, ActionResult
from countersign_contracts.agent_config import ConfigValues
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import HEARTBEAT_S
from countersign_contracts.ids import new_id
from countersign_ledger import TrustBundle

from .enrolled import EnrolledTransport, Enrolment
from .following import Apply, follow, take
from .over_http import HttpTransport
from .over_nats import NatsTransport
from .transport import Transport


class Agent:
    """One agent. Make it with :meth:`nats` or :meth:`http`, use it in ``async with``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._started = time.monotonic()
        self._living: AbstractAsyncContextManager[None] | None = None

    @classmethod
    def nats(cls, url: str, creds_file: str | Path, *, trust: TrustBundle | None = None) -> Self:
        """Over NATS, with the credentials file that `countersign agents credentials` wrote.

        With ``trust`` every answer's signature is checked, and an answer that is not the gateway's is ignored.
        """
        return cls(NatsTransport(url, Path(creds_file), trust))

    @classmethod
    def http(cls, url: str, token: str) -> Self:
        """Over HTTP, with the agent's token."""
        return cls(HttpTransport(url, token))

    @classmethod
    def register(
        cls,
        url: str,
        *,
        token: str,
        agent_type: str,
        name: str,
        version: str,
        key_file: str | Path,
        gateway: str | None = None,
        bootstrap_creds: str | Path | None = None,
        trust: TrustBundle | None = None,
    ) -> Self:
        """An agent that registers itself when its block begins; then it is connected over NATS, and lives.

        It makes a NATS key of its own, which it keeps in ``key_file`` (mode 0600), and registers with a discovery
        ``token`` at the ``gateway`` (its URL) or, without one, over NATS with the ``bootstrap_creds`` that came with
        the token. While the block runs it says that it lives, and renews its credentials before they end. Begun again
        with the same file it is the same agent: at the ``gateway`` without the token, which is spent by then.
        """
        said = Enrolment(
            agent_type=agent_type,
            name=name,
            version=version,
            token=token,
            gateway=gateway,
            bootstrap_creds=None if bootstrap_creds is None else Path(bootstrap_creds),
        )
        return cls(EnrolledTransport(url, said, Path(key_file), trust))

    @property
    def agent_id(self) -> str | None:
        """Who the agent is; over HTTP its token does not say, and one that registers does not know before."""
        return getattr(self._transport, "agent_id", None) or None

    async def __aenter__(self) -> Self:
        await self._transport.open()
        if isinstance(self._transport, EnrolledTransport):
            self._living = self.alive(self._transport.heartbeat_s, version=self._transport.version)
            await self._living.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._living is not None:
                living, self._living = self._living, None
                await living.__aexit__(kind, error, trace)
        finally:
            await self._transport.close()

    async def submit(
        self,
        tool: str,
        args: dict[str, Any],
        *,
        env: str,
        session_id: str | None = None,
        on_behalf_of: str | Sequence[str] | None = None,
        reason: str | None = None,
        request_id: str | None = None,
        timeout_s: float = 30,
        queued: bool = True,
    ) -> ActionResult:
        """Hand in an action; returns once it is accepted, and will then end whatever happens.

        ``on_behalf_of`` is whom the agent acts for (``person:…``, ``system:…``, ``agent:…``), several outermost first.
        Submitting again with the same ``request_id`` is harmless. Raises :class:`CountersignError` if it is refused
        as a request, :class:`Unavailable` if nobody accepts it within ``timeout_s`` seconds.

        Over NATS it waits in a stream for the gateway, as it was sent. Sensitive arguments may not: with ``queued`` off
        it goes to the gateway directly, which must be there.
        """
        body = _body(tool, args, env, session_id, on_behalf_of, reason, request_id)
        return await self._transport.submit(body, timeout_s, queued=queued)

    async def call(
        self,
        tool: str,
        args: dict[str, Any],
        *,
        env: str,
        session_id: str | None = None,
        on_behalf_of: str | Sequence[str] | None = None,
        reason: str | None = None,
        request_id: str | None = None,
        wait_s: float = 25,
    ) -> ActionResult:
        """Hand in an action and wait for its outcome, at most ``wait_s`` seconds; then its state so far."""
        body = _body(tool, args, env, session_id, on_behalf_of, reason, request_id)
        return await self._transport.call(body, wait_s)

    async def wait(self, request_id: str, timeout_s: float | None = None) -> ActionResult:
        """The outcome of an action; raises :class:`TimeoutError` if it has not ended after ``timeout_s`` seconds."""
        async with asyncio.timeout(timeout_s):
            while True:
                result = await self._transport.get(request_id, 20)
                if result.state in FINAL_STATES:
                    return result

    async def get(self, request_id: str) -> ActionResult:
        """The action's state now."""
        return await self._transport.get(request_id, 0)

    async def cancel(self, request_id: str, reason: str | None = None) -> ActionResult:
        """Withdraw an action that is not granted yet."""
        return await self._transport.cancel(request_id, reason)

    async def heartbeat(
        self, status: str = "healthy", *, version: str | None = None, load: float | None = None
    ) -> None:
        """Say that the agent lives. ``load`` is 0 to 1."""
        body: dict[str, Any] = {"status": status, "uptime_s": round(time.monotonic() - self._started, 1)}
        if version is not None:
            body["version"] = version
        if load is not None:
            body["load"] = load
        await self._transport.heartbeat(body)

    @asynccontextmanager
    async def configured(self, apply: Apply) -> AsyncIterator[ConfigValues]:
        """Have ``apply`` called with the agent's configuration, and with each new one while the block runs.

        ``apply`` may be async. It raises :class:`ValueError`, saying why, for what it cannot use: people see that, and
        the old one stays in force. Raises that at the start, where there is no old one, and :class:`CountersignError`
        if the configuration cannot be had.
        """
        found = await self._transport.configuration()
        await take(self._transport, found, apply)
        following = asyncio.create_task(follow(self._transport, apply, found.digest))
        try:
            yield found.values
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    @asynccontextmanager
    async def alive(self, interval_s: float = HEARTBEAT_S, *, version: str | None = None) -> AsyncIterator[None]:
        """Say so every ``interval_s`` seconds while the block runs, and at its end that the agent stops.

        The interval is the one the agent is registered with. A block that raises says nothing at its end: the agent
        is then seen to have failed. A heartbeat that cannot be sent is left out.
        """

        async def beat() -> None:
            while True:
                with suppress(CountersignError):
                    await self.heartbeat(version=version)
                await asyncio.sleep(interval_s)

        beating = asyncio.create_task(beat())
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
        with suppress(CountersignError):
            await self.heartbeat("stopping", version=version)


def _body(
    tool: str,
    args: dict[str, Any],
    env: str,
    session_id: str | None,
    on_behalf_of: str | Sequence[str] | None,
    reason: str | None,
    request_id: str | None,
) -> dict[str, Any]:
    body: dict[str, Any] = {"request_id": request_id or new_id(), "tool": tool, "args": args, "env": env}
    if session_id is not None:
        body["session_id"] = session_id
    if on_behalf_of is not None:
        body["on_behalf_of"] = on_behalf_of if isinstance(on_behalf_of, str) else list(on_behalf_of)
    if reason is not None:
        body["reason"] = reason
    return body
