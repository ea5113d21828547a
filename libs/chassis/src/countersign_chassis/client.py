"""nats-py's client, hardened and made quick: the one place that leans on its insides (pinned; tests/contract watches).

The library's own (2.16) ends its read loop, and still says that it is connected, at a message whose headers are cut
short or whose status line or reply subject is not UTF-8: any agent could make the gateway deaf with one. And it takes
five turns of the event loop from the socket to a callback and two back: an action crosses it some thirty times. So
whole messages for listeners are read as they come from the socket; all else is left to the library's own parser.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import nats.errors
from nats.aio.client import DEFAULT_FLUSH_TIMEOUT, Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.protocol.parser import AWAITING_CONTROL_LINE

#: How long an acknowledgement may wait for company.
UNHURRIED_S = 0.01

_PLAIN_HEADERS = b"NATS/1.0\r\n"
_END_OF_HEADERS = b"\r\n\r\n"


class NatsClient(Client):
    """A client that goes on reading, calls back at once, and writes once a turn of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self._listeners: dict[int, Callable[[Msg], None]] = {}
        self._write_due = False
        self._unhurried_due = False
        self._telling: set[asyncio.Task[None]] = set()

    def peer_expires(self) -> float | None:
        """When the server's certificate expires, in unix seconds; None where the connection is none or not TLS."""
        writer = None if self._transport is None else getattr(self._transport, "_io_writer", None)
        shown = None if writer is None else writer.get_extra_info("peercert")
        return ssl.cert_time_to_seconds(shown["notAfter"]) if shown else None

    # --- out --------------------------------------------------------------------------------------

    def send(self, subject: str, body: bytes = b"", *, reply: str = "", headers: dict[str, str] | None = None) -> None:
        """Publish without awaiting: what is sent in one turn of the loop goes out in one write.

        While the server is away it is kept, within the limit of pending bytes. Raises :class:`nats.errors.Error`:
        closed, beyond that limit, or larger than the server takes.
        """
        if headers:
            block = "".join(["NATS/1.0\r\n", *[f"{name}: {value}\r\n" for name, value in headers.items()], "\r\n"])
            if block.count("\n") != len(headers) + 2 or block.count("\r") != len(headers) + 2:
                raise nats.errors.BadHeaderError("a header contains a line break")
            encoded = block.encode()
            size = len(encoded)
            self._require_room(size + len(body))
            command = f"HPUB {subject} {reply} {size} {size + len(body)}\r\n".encode()
            self._queue(b"".join((command, encoded, body, b"\r\n")))
        else:
            self._require_room(len(body))
            self._queue(b"".join((f"PUB {subject} {reply} {len(body)}\r\n".encode(), body, b"\r\n")))
        if not self._write_due:
            self._write_due = True
            asyncio.get_running_loop().call_soon(self._write)

    def _require_room(self, size: int) -> None:
        """The server counts headers too, and closes the connection of who sends it more."""
        if size > self._max_payload:
            raise nats.errors.MaxPayloadError

    def send_unhurried(self, subject: str, body: bytes) -> None:
        """Publish with whatever is sent next, or after ``UNHURRIED_S``: a write of its own would wake the server."""
        self._queue(b"".join((f"PUB {subject} {len(body)}\r\n".encode(), body, b"\r\n")))
        if not self._unhurried_due:
            self._unhurried_due = True
            asyncio.get_running_loop().call_later(UNHURRIED_S, self._write_unhurried)

    def _queue(self, command: bytes) -> None:
        if self.is_closed:
            raise nats.errors.ConnectionClosedError
        if self._pending_data_size + len(command) > self._max_pending_size:
            raise nats.errors.OutboundBufferLimitError
        self._pending.append(command)
        self._pending_data_size += len(command)
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(command)

    def _write_unhurried(self) -> None:
        self._unhurried_due = False
        self._write()

    def _write(self) -> None:
        self._write_due = False
        if not self._pending or not self.is_connected or self._transport is None or self._flush_queue is None:
            return  # what waits is written when the connection is back
        writer = self._transport._io_writer  # type: ignore[attr-defined]  # we speak TCP, never WebSocket
        if writer is None or writer.transport.get_write_buffer_size():
            # the server reads slowly: the library's flusher waits until the socket has drained
            if self._flush_queue.empty():
                self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())
            return
        pending, self._pending, self._pending_data_size = self._pending, [], 0
        writer.write(b"".join(pending))

    async def flush(self, timeout: int = DEFAULT_FLUSH_TIMEOUT) -> None:  # noqa: ASYNC109 - the library's signature
        """Return once the server has taken in everything said so far.

        The library's PING overtakes commands that wait to be written, so that only a second one comes after them.
        """
        await super().flush(timeout)
        await super().flush(timeout)

    async def close(self) -> None:
        """Disconnect. What waits for a server that is away is dropped.

        The library would write it to the connection that is lost, fail, and leave that open.
        """
        if not self.is_connected:
            self._pending, self._pending_data_size = [], 0
        try:
            await super().close()
        except OSError:  # lost at this very moment
            if self._transport is not None:
                self._transport.close()  # type: ignore[no-untyped-call]

    # --- in ---------------------------------------------------------------------------------------

    async def listen(self, subject: str, listener: Callable[[Msg], None], *, queue: str = "") -> Subscription:
        """Subscribe; ``listener`` is called as messages are read, without queue or task. It must not raise or wait."""
        subscription = await self.subscribe(subject, queue=queue)
        self._listeners[subscription._id] = listener
        return subscription

    async def unlisten(self, subscription: Subscription) -> None:
        """End what :meth:`listen` began; nothing is called back any more."""
        self._listeners.pop(subscription._id, None)
        await subscription.unsubscribe()

    async def _read_loop(self) -> None:
        reader = getattr(self._transport, "_io_reader", None)
        if isinstance(reader, asyncio.StreamReader):
            feed, parser = reader.feed_data, self._ps

            def take(data: bytes) -> None:
                if not reader._buffer and not parser.buf and parser.state == AWAITING_CONTROL_LINE:  # type: ignore[attr-defined]
                    data = self._take_messages(data)
                if data:
                    feed(data)

            reader.feed_data = take  # type: ignore[method-assign, assignment]
        await super()._read_loop()

    def _take_messages(self, data: bytes) -> bytes:
        """Call the listeners of the messages that ``data`` begins with; returns the rest, which is for the library.

        That is where another command begins, a message that nobody listens for, that is not whole or is unusual.
        """
        at, end = 0, len(data)
        while at < end:
            line_end = data.find(b"\r\n", at)
            words = data[at:line_end].split(b" ") if line_end > 0 else []
            headed = words[:1] == [b"HMSG"]
            if not headed and words[:1] != [b"MSG"]:
                break
            # [H]MSG <subject> <sid> [reply] [length of the headers] <length>
            replied = len(words) == (6 if headed else 5)
            if len(words) != 4 + headed + replied:
                break
            try:
                sid, size, head = int(words[2]), int(words[-1]), int(words[-2]) if headed else 0
                subject, reply = words[1].decode(), words[3].decode() if replied else ""
            except ValueError:
                break
            body = line_end + 2
            listener = self._listeners.get(sid)
            if listener is None or sid not in self._subs or body + size + 2 > end:
                break
            headers = _plain_headers(data[body : body + head]) if headed else {}
            if headers is None:
                break
            at = body + size + 2
            self._call(listener, subject, reply, data[body + head : body + size], headers or None)
        return data[at:] if at else data

    def _call(
        self, listener: Callable[[Msg], None], subject: str, reply: str, body: bytes, headers: dict[str, str] | None
    ) -> None:
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(body)
        try:
            listener(Msg(self, subject, reply, body, headers))
        except Exception as error:
            task = asyncio.ensure_future(self._error_cb(error))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _process_headers(self, headers: Any) -> dict[str, str] | None:
        if headers and (plain := _plain_headers(headers)) is not None:
            return plain
        try:
            return await super()._process_headers(headers)
        except (ValueError, IndexError):
            return None  # as if there were none; who needs one refuses the message

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        try:
            reply_to = reply.decode()
        except UnicodeDecodeError:
            reply_to, reply = "", b""  # nobody can be answered there
        listener = self._listeners.get(sid)
        if listener is None:
            return await super()._process_msg(sid, subject, reply, data, headers)
        if sid not in self._subs:
            del self._listeners[sid]  # unsubscribed meanwhile
            return
        known = await self._process_headers(headers) if headers else None
        self._call(listener, subject.decode(), reply_to, data, known)


def _plain_headers(headers: bytes) -> dict[str, str] | None:
    """What this project writes; None if it is unusual, and for the library's own parser to decide."""
    if headers.startswith(_PLAIN_HEADERS) and headers.endswith(_END_OF_HEADERS):
        try:
            lines = headers[len(_PLAIN_HEADERS) : -len(_END_OF_HEADERS)].decode("ascii").split("\r\n")
            return {name: value for name, value in (line.split(": ", 1) for line in lines)}
        except ValueError:
            pass
    return None
