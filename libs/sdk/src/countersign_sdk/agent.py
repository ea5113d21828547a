"""The agent's side of Countersign."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from countersign_contracts.actions import FINAL_STATES, ActionResult
from countersign_contracts.agent_config import DEFAULTS, ConfigValues
from countersign_contracts.approvals import ApprovalProgress
from countersign_contracts.errors import CountersignError, Malformed
from countersign_contracts.fleet import HEARTBEAT_S
from countersign_contracts.ids import new_id
from countersign_ledger import TrustBundle

from .ending import end
from .enrolled import EnrolledTransport, Enrolment
from .following import Apply, follow, take
from .over_http import HttpTransport
from .over_nats import NatsTransport
from .telemetry import Telemetry
from .telling import Telling
from .transport import Hears, Transport

#: How long an action that an approver changed may take to be known, in seconds, and how often it is looked for.
_KNOWN_S, _LOOK_S = 10.0, 0.1
#: Seconds between two reports of metrics, where nobody configured anything else.
METRICS_INTERVAL_S = float(DEFAULTS.metrics_interval_s or 60)
#: Actions that one look lists.
_PAGE = 100


def progress_of(outcome: ActionResult) -> ApprovalProgress | None:
    """What is known of the approval that a held action waits for: whom it waits for in words, until when, and who
    approved so far. None if it waits for none, or nothing was heard of it yet."""
    try:
        return ApprovalProgress.from_bytes(orjson.dumps(outcome.approval)) if outcome.approval else None
    except Malformed:
        return None


class Agent(Telling):
    """One agent. Make it with :meth:`nats`, :meth:`http` or :meth:`register`, use it in ``async with``.

    What it says of its work (:meth:`log`, :meth:`event`, :meth:`gauge`) is sent while the block runs, beside the work;
    what is left, at its end. Metrics go every ``metrics_interval_s`` seconds, until its configuration says otherwise.
    """

    def __init__(self, transport: Transport, *, metrics_interval_s: float = METRICS_INTERVAL_S) -> None:
        self._transport = transport
        enrolled = isinstance(transport, EnrolledTransport)
        self._telemetry = Telemetry(transport.tell, metrics_interval_s, always=enrolled)
        self._started = time.monotonic()
        self._living: AbstractAsyncContextManager[None] | None = None

    @classmethod
    def nats(
        cls,
        url: str,
        creds_file: str | Path,
        *,
        trust: TrustBundle | None = None,
        metrics_interval_s: float = METRICS_INTERVAL_S,
    ) -> Self:
        """Over NATS, with the credentials file that `countersign agents credentials` wrote.

        With ``trust`` every answer's signature is checked, and an answer that is not the gateway's is ignored.
        """
        return cls(NatsTransport(url, Path(creds_file), trust), metrics_interval_s=metrics_interval_s)

    @classmethod
    def http(cls, url: str, token: str, *, metrics_interval_s: float = METRICS_INTERVAL_S) -> Self:
        """Over HTTP, with the agent's token."""
        return cls(HttpTransport(url, token), metrics_interval_s=metrics_interval_s)

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
        metrics_interval_s: float = METRICS_INTERVAL_S,
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
        return cls(EnrolledTransport(url, said, Path(key_file), trust), metrics_interval_s=metrics_interval_s)

    @property
    def agent_id(self) -> str | None:
        """Who the agent is; over HTTP its token does not say, and one that registers does not know before."""
        return getattr(self._transport, "agent_id", None) or None

    async def __aenter__(self) -> Self:
        await self._transport.open()
        self._telemetry.start()
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
            await self._telemetry.close()
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
        follow: bool = True,
    ) -> ActionResult:
        """Hand in an action and wait for its outcome, at most ``wait_s`` seconds; then its state so far.

        An approver may have changed the arguments: then this action is denied, and another one, with its own
        ``request_id``, takes its place (``superseded_by``). The answer is about the one that was really decided on,
        unless ``follow`` is off.
        """
        deadline = time.monotonic() + wait_s
        body = _body(tool, args, env, session_id, on_behalf_of, reason, request_id)
        result = await self._transport.call(body, wait_s)
        while follow and result.superseded_by is not None:
            following = await self._successor(result.superseded_by, deadline)
            if following is None:
                break
            result = following
        return result

    async def wait(
        self,
        request_id: str,
        timeout_s: float | None = None,
        *,
        follow: bool = True,
        on_change: Hears | None = None,
    ) -> ActionResult:
        """The outcome of an action; raises :class:`TimeoutError` if it has not ended after ``timeout_s`` seconds.

        ``follow`` as for :meth:`call`. ``on_change`` is called with each state that is heard meanwhile, each once:
        while the action is held :func:`progress_of` says whom it waits for. Over NATS that is at once, over HTTP
        within some seconds.
        """
        hears = None if on_change is None else _once(on_change)
        async with asyncio.timeout(timeout_s):
            while True:
                result = await self._transport.get(request_id, 20, hears)
                if result.state not in FINAL_STATES:
                    continue
                if not follow or result.superseded_by is None:
                    return result
                request_id = result.superseded_by
                await self._known(request_id)

    async def _successor(self, request_id: str, deadline: float) -> ActionResult | None:
        """The outcome of what took an action's place, or its state when time is up; None if it is not known by then."""
        with suppress(TimeoutError, CountersignError):
            async with asyncio.timeout(max(0.5, deadline - time.monotonic())):
                result = await self._known(request_id)
                while result.state not in FINAL_STATES and (left := deadline - time.monotonic()) > 0:
                    result = await self._transport.get(request_id, left)
                return result
        with suppress(CountersignError):
            return await self._transport.get(request_id, 0)
        return None

    async def _known(self, request_id: str) -> ActionResult:
        """The state of an action that is accepted in these moments; raises `not_found` if it does not come."""
        until = time.monotonic() + _KNOWN_S
        while True:
            try:
                return await self._transport.get(request_id, 0)
            except CountersignError as error:
                if error.code != "not_found" or time.monotonic() > until:
                    raise
            await asyncio.sleep(_LOOK_S)

    async def actions(
        self,
        *,
        session_id: str | None = None,
        state: str | None = None,
        tool: str | None = None,
        limit: int = _PAGE,
    ) -> list[ActionResult]:
        """The agent's own actions, newest first, at most ``limit``: how a process that restarted finds them again.

        >>> for held in await agent.actions(session_id="run-1", state="held"):
        ...     await agent.cancel(held.request_id, "the run was given up")
        """
        given = {"session_id": session_id, "state": state, "tool": tool}
        wanted: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        found: list[ActionResult] = []
        while len(found) < limit:
            page = await self._transport.page(wanted | {"limit": min(_PAGE, limit - len(found))})
            found += page.items
            if page.next is None:
                break
            wanted["before"] = page.next
        return found

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
        if the configuration cannot be had. What is applied counts for the agent's log and metrics, too: ``log_level``,
        ``metrics_enabled``, ``metrics_interval_s``.
        """

        async def use(values: ConfigValues) -> None:
            applied = apply(values)
            if inspect.isawaitable(applied):
                await applied
            self._telemetry.use(values)

        found = await self._transport.configuration()
        await take(self._transport, found, use)
        following = asyncio.create_task(follow(self._transport, use, found.digest))
        try:
            yield found.values
        finally:
            await end(following)

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
            await end(beating)
        with suppress(CountersignError):
            await self.heartbeat("stopping", version=version)


def _once(hears: Hears) -> Hears:
    """Tell each change once: of the state, or of what it waits for."""
    said: list[Any] = []

    def tell(result: ActionResult) -> None:
        now = [result.request_id, result.state, result.approval]
        if now != said:
            said[:] = now
            hears(result)

    return tell


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
