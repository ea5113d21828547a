"""One connection to nats-server as one user of one account, and the publishing that awaits its PubAcks.

The connection reconnects for ever. ``nats-py`` reports a publish that breaks a permission only through its error
callback, so errors are kept and told to whoever waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import nats
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from countersign_contracts.errors import CountersignError, Unavailable

#: How long one attempt waits for its PubAck, and how long all attempts together may take.
ATTEMPT_S = 2.0
PUBLISH_S = 8.0


#: How long an acknowledgement may wait for company.
UNHURRIED_S = 0.01

_PLAIN_HEADERS = b"NATS/1.0\r\n"
_END_OF_HEADERS = b"\r\n\r\n"


class PublishRefused(CountersignError):
    """The server or the stream refused the message for good; repeating it would not help."""


@dataclass(slots=True)
class Outgoing:
    """A message on its way to a stream."""

    subject: str
    body: bytes
    headers: dict[str, str]


class _Client(Client):
    """nats-py's client, but one that goes on reading, and handles headers in a tenth of the time.

    The library's own (2.16) ends its read loop, and still says that it is connected, at a message whose headers are cut
    short or whose status line or reply subject is not UTF-8: any agent could make the gateway deaf with one. It also
    reads and writes headers piece by piece: an event has eleven.
    """

    _kick_due = False

    async def _process_headers(self, headers: Any) -> dict[str, str] | None:
        if headers and headers.startswith(_PLAIN_HEADERS) and headers.endswith(_END_OF_HEADERS):
            try:
                lines = headers[len(_PLAIN_HEADERS) : -len(_END_OF_HEADERS)].decode("ascii").split("\r\n")
                return {name: value for name, value in (line.split(": ", 1) for line in lines)}
            except ValueError:
                pass  # unusual: the library's own parser decides
        try:
            return await super()._process_headers(headers)
        except (ValueError, IndexError):
            return None  # as if there were none; who needs one refuses the message

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        try:
            reply.decode()
        except UnicodeDecodeError:
            reply = b""  # nobody can be answered there
        await super()._process_msg(sid, subject, reply, data, headers)

    async def _send_publish(
        self, subject: str, reply: str, payload: bytes, payload_size: int, headers: dict[str, Any] | None
    ) -> None:
        if headers is None:
            return await super()._send_publish(subject, reply, payload, payload_size, headers)
        block = "".join(["NATS/1.0\r\n", *[f"{name}: {value}\r\n" for name, value in headers.items()], "\r\n"])
        if len(block.splitlines()) != len(headers) + 2:  # a line break in a value: the library replaces it
            return await super()._send_publish(subject, reply, payload, payload_size, headers)
        encoded = block.encode()
        size = len(encoded)
        command = f"HPUB {subject} {reply} {size} {size + payload_size}\r\n".encode()
        await self._send_command(b"".join((command, encoded, payload, b"\r\n")))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    async def publish_unhurried(self, subject: str, payload: bytes) -> None:
        """Publish with whatever is sent next, or after ``UNHURRIED_S``: a write of its own wakes the server for it."""
        await self._send_command(f"PUB {subject} {len(payload)}\r\n".encode() + payload + b"\r\n")
        if not self._kick_due:
            self._kick_due = True
            asyncio.get_running_loop().call_later(UNHURRIED_S, self._kick)

    def _kick(self) -> None:
        self._kick_due = False
        if self._pending_data_size and self._flush_queue is not None and self._flush_queue.empty():
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())


class NatsConnection:
    """A connection that publishes with acknowledgement. ``name`` is the user's, and the inbox prefix's last part."""

    def __init__(self, url: str, creds_file: Path | None, name: str, log: Any) -> None:
        self._url = url
        self._creds = creds_file
        self.name = name
        self.client = _Client()
        self._log = log
        self._acks: dict[str, asyncio.Future[Msg]] = {}
        self._tokens = count()
        self._ack_prefix = ""
        self._on_reconnect: list[Callable[[], Awaitable[None]]] = []
        self.last_error: str | None = None

    @property
    def connected(self) -> bool:
        """Whether the server is reachable now."""
        return bool(self.client.is_connected)

    def on_reconnect(self, action: Callable[[], Awaitable[None]]) -> None:
        """Run ``action`` each time the connection came back."""
        self._on_reconnect.append(action)

    async def open(self) -> None:
        """Connect; raises :class:`Unavailable` if the server is not there, so that the caller can wait and say so."""
        self.client = _Client()
        try:
            await self.client.connect(
                self._url,
                name=f"countersign-{self.name}",
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
            raise Unavailable(f"nats-server at {self._url} does not accept {self.name}: {error}") from None
        self._ack_prefix = self.client.new_inbox() + "."
        await self.client.subscribe(self._ack_prefix + "*", cb=self._acked)

    async def barrier(self) -> None:
        """Return once the server has taken in everything said so far.

        nats-py writes a flush's PING ahead of commands still queued, so that only a second one comes after them.
        """
        await self.client.flush()
        await self.client.flush()

    async def close(self) -> None:
        """Flush what was published and disconnect."""
        if self.client.is_closed:
            return
        try:
            async with asyncio.timeout(1):
                await self.barrier()
        except (TimeoutError, nats.errors.Error, OSError):
            self._log.warning("connection closed with messages unflushed", user=self.name)
        await self.client.close()

    async def _error(self, error: Exception) -> None:
        self.last_error = str(error) or type(error).__name__
        self._log.warning("nats", user=self.name, error=self.last_error)

    async def _reconnected(self) -> None:
        self._log.info("nats connection is back", user=self.name)
        for action in self._on_reconnect:
            await action()

    async def _acked(self, msg: Msg) -> None:
        future = self._acks.pop(msg.subject[len(self._ack_prefix) :], None)
        if future is not None and not future.done():
            future.set_result(msg)

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
        loop = asyncio.get_running_loop()
        waiting: dict[str, tuple[asyncio.Future[Msg], Outgoing]] = {}
        unsent: list[Outgoing] = []
        for message in messages:
            token = str(next(self._tokens))
            future: asyncio.Future[Msg] = loop.create_future()
            self._acks[token] = future
            try:
                await self.client.publish(
                    message.subject, message.body, reply=self._ack_prefix + token, headers=message.headers
                )
            except (nats.errors.Error, OSError) as error:
                del self._acks[token]
                if isinstance(error, nats.errors.MaxPayloadError):
                    raise PublishRefused(f"the message to {message.subject} is larger than the bus carries") from None
                unsent.append(message)
            else:
                waiting[token] = (future, message)
        if not waiting:
            return unsent
        done, _ = await asyncio.wait([future for future, _ in waiting.values()], timeout=ATTEMPT_S)
        for token, (future, message) in waiting.items():
            if future not in done:
                self._acks.pop(token, None)
                unsent.append(message)
                continue
            ack = future.result()
            if ack.headers and ack.headers.get("Status") == "503":
                unsent.append(message)
                continue
            answer = orjson.loads(ack.data)
            if refused := answer.get("error"):
                if refused.get("code", 500) >= 500:
                    unsent.append(message)
                    continue
                raise PublishRefused(f"the stream refused {message.subject}: {refused.get('description')}")
        return unsent
