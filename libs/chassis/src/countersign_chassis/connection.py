"""One connection to nats-server as one user of one account, and the publishing that awaits its PubAcks.

The connection reconnects for ever. ``nats-py`` reports a publish that breaks a permission only through its error
callback, so errors are kept and told to whoever waits.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import nats
import orjson
from nats.aio.msg import Msg

from countersign_contracts.errors import CountersignError, Unavailable

from .client import NatsClient

#: How long one attempt waits for its PubAck, and how long all attempts together may take.
ATTEMPT_S = 2.0
PUBLISH_S = 8.0
#: How long each server has to let one in, before somebody is told that it does not; then it is tried again.
OPEN_S = 4.0
#: How often the same error is logged while it lasts.
SAY_AGAIN_S = 30.0


def servers_of(url: str, tls: ssl.SSLContext | None = None) -> list[str]:
    """The servers that ``url`` names, one or several with commas between; with ``tls`` none is spoken to in clear."""
    servers = [each.strip() for each in url.split(",") if each.strip()]
    return [each.replace("nats://", "tls://", 1) for each in servers] if tls is not None else servers


class PublishRefused(CountersignError):
    """The server or the stream refused the message for good; repeating it would not help."""


@dataclass(slots=True)
class Outgoing:
    """A message on its way to a stream."""

    subject: str
    body: bytes
    headers: dict[str, str]


class _Batch:
    """Messages on their way to a stream; ``done`` once each has its answer."""

    __slots__ = ("answers", "done", "missing")

    def __init__(self, size: int) -> None:
        self.answers: list[Msg | None] = [None] * size
        self.missing = size
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(self, index: int, msg: Msg) -> None:
        self.answers[index] = msg
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(None)


class NatsConnection:
    """A connection that publishes with acknowledgement. ``name`` is the user's, and the inbox prefix's last part.

    ``url`` may name several servers of one cluster, with commas between: any will do, and another where one is gone.
    ``tls`` says whose certificates are believed; with it no connection is made in clear.
    ``instance`` is what nats-server lists it as, where several processes share the user.
    """

    def __init__(
        self,
        url: str,
        creds_file: Path | None,
        name: str,
        log: Any,
        instance: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._listed_as = f"countersign-{instance or name}"
        self._url = url
        self._servers = servers_of(url, tls)
        self._tls = tls
        self._creds = creds_file
        self.name = name
        self.client = NatsClient()
        self._log = log
        self._awaited: dict[str, Callable[[Msg], None]] = {}
        self._tokens = count()
        self._reply_prefix = ""
        self._said_at = 0.0
        self._on_reconnect: list[Callable[[], Awaitable[None]]] = []
        self.last_error: str | None = None

    @property
    def connected(self) -> bool:
        """Whether the server is reachable now."""
        return bool(self.client.is_connected)

    def certificate_left_s(self) -> float:
        """Seconds until the certificate expires that the server showed when it was connected to; NaN without one."""
        expires = self.client.peer_expires()
        return math.nan if expires is None else expires - time.time()

    def on_reconnect(self, action: Callable[[], Awaitable[None]]) -> None:
        """Run ``action`` each time the connection came back."""
        self._on_reconnect.append(action)

    async def open(self) -> None:
        """Connect; raises :class:`Unavailable` if the server is not there, so that the caller can wait and say so."""
        self.client = NatsClient()
        self.last_error = None
        try:
            # the library itself would try for ever, and nobody would know why
            async with asyncio.timeout(OPEN_S * len(self._servers)):
                await self.client.connect(
                    self._servers,
                    tls=self._tls,
                    name=self._listed_as,
                    user_credentials=str(self._creds) if self._creds else None,
                    inbox_prefix=f"_INBOX.{self.name}",
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.2,  # type: ignore[arg-type]  # seconds; annotated as int, any number works
                    connect_timeout=3,
                    ping_interval=10,
                    max_outstanding_pings=2,
                    pending_size=64 * 1024 * 1024,
                    error_cb=self._error,
                    reconnected_cb=self._reconnected,
                )
        except (OSError, TimeoutError, nats.errors.Error) as error:
            await self.client.close()  # a refused connect leaves its socket open
            why = self._why(error)
            raise Unavailable(f"nats-server at {self._url} does not accept {self.name}: {why}") from None
        self._reply_prefix = self.client.new_inbox() + "."
        await self.client.listen(self._reply_prefix + "*", self._replied)

    async def barrier(self) -> None:
        """Return once the server has taken in everything said so far."""
        await self.client.flush()

    async def close(self) -> None:
        """Flush what was published and disconnect."""
        if self.client.is_closed or not self._reply_prefix:  # never opened: there is nothing to flush
            return
        try:
            async with asyncio.timeout(1):
                await self.barrier()
        except (TimeoutError, nats.errors.Error, OSError):
            self._log.warning("connection closed with messages unflushed", user=self.name)
        await self.client.close()

    async def _error(self, error: Exception) -> None:
        said, self.last_error = self.last_error, str(error) or type(error).__name__
        now = asyncio.get_running_loop().time()
        if said != self.last_error or now - self._said_at > SAY_AGAIN_S:  # it is tried several times a second
            self._said_at = now
            self._log.warning("nats", user=self.name, error=self.last_error)

    def _why(self, error: Exception) -> str:
        """What the library said last: of its tries only the time that they took comes up here."""
        return str(error) or self.last_error or "no answer"

    async def _reconnected(self) -> None:
        self._log.info("nats connection is back", user=self.name)
        for action in self._on_reconnect:
            await action()

    def _replied(self, msg: Msg) -> None:
        awaited = self._awaited.pop(msg.subject[len(self._reply_prefix) :], None)
        if awaited is not None:
            awaited(msg)

    async def request(self, subject: str, body: bytes, headers: dict[str, str], timeout_s: float) -> Msg:
        """Ask and await the one answer.

        Raises :class:`TimeoutError`, :class:`nats.errors.NoRespondersError` when nobody listens, and what ``send``
        raises.
        """
        token = str(next(self._tokens))
        answered: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._awaited[token] = lambda msg: None if answered.done() else answered.set_result(msg)
        try:
            self.client.send(subject, body, reply=self._reply_prefix + token, headers=headers)
            async with asyncio.timeout(timeout_s):
                msg = await answered
        finally:
            self._awaited.pop(token, None)
        if msg.headers and msg.headers.get("Status") == "503":
            raise nats.errors.NoRespondersError
        return msg

    async def publish_to_stream(self, messages: list[Outgoing]) -> None:
        """Publish and await every PubAck, repeating those that got none.

        Raises :class:`Unavailable` when the stream does not answer in time, :class:`PublishRefused` when it says no.
        """
        deadline = asyncio.get_running_loop().time() + PUBLISH_S
        missing = messages
        pause = 0.05
        while True:
            missing = await self._attempt(missing)
            if not missing:
                return
            if asyncio.get_running_loop().time() + pause > deadline:
                raise Unavailable(
                    f"{len(missing)} of {len(messages)} messages to {missing[0].subject} got no acknowledgement from"
                    f" the stream within {PUBLISH_S:.0f} s" + (f" ({self.last_error})" if self.last_error else "")
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def _attempt(self, messages: list[Outgoing]) -> list[Outgoing]:
        """Send each once; returns those that the stream did not take and may yet."""
        batch = _Batch(len(messages))
        tokens: list[str] = []
        try:
            for index, message in enumerate(messages):
                token = str(next(self._tokens))
                self._awaited[token] = partial(batch.answered, index)
                tokens.append(token)
                self.client.send(
                    message.subject, message.body, reply=self._reply_prefix + token, headers=message.headers
                )
        except nats.errors.MaxPayloadError:
            self._forget(tokens)
            raise PublishRefused(f"the message to {message.subject} is larger than the bus carries") from None
        except nats.errors.BadHeaderError as error:
            self._forget(tokens)
            raise PublishRefused(f"the message to {message.subject} cannot be sent: {error}") from None
        except nats.errors.Error:
            batch.missing -= len(messages) - index  # this one and those after it were not sent
        if batch.missing > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(ATTEMPT_S):
                    await batch.done
            self._forget(tokens)
        return [m for m, answer in zip(messages, batch.answers, strict=True) if not _taken(m, answer)]

    def _forget(self, tokens: list[str]) -> None:
        for token in tokens:
            self._awaited.pop(token, None)


def _taken(message: Outgoing, answer: Msg | None) -> bool:
    """Whether the stream has it; raises :class:`PublishRefused` if it never will."""
    if answer is None or (answer.headers and answer.headers.get("Status") == "503"):
        return False
    refused = orjson.loads(answer.data).get("error")
    if refused and refused.get("code", 500) < 500:
        raise PublishRefused(f"the stream refused {message.subject}: {refused.get('description')}")
    return not refused
