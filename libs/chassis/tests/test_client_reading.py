"""What is read straight from the socket is what the library would have read, wherever the stream is cut."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport
from nats.protocol.parser import Parser

from countersign_chassis.client import NatsClient

Heard = list[tuple[int, str, str, bytes, dict[str, str] | None]]

LISTENED = (1, 27)
_SUBJECT = st.sampled_from([b"a", b"actions.granted.bot", b"_INBOX.x.y", b"gr\xc3\xb6\xc3\x9fe", b"\xff\xfe"])
_REPLY = st.sampled_from([b"", b"_INBOX.z.1", b"\xff"])
_SID = st.sampled_from([1, 27, 3])
_BODY = st.one_of(
    st.binary(max_size=40), st.sampled_from([b"", b"\r\n", b"MSG a 1 3\r\n", b"PING\r\n", b"NATS/1.0\r\n\r\n"])
)
_HEADERS = st.sampled_from(
    [
        b"NATS/1.0\r\nce-id: 1\r\n\r\n",
        b"NATS/1.0\r\nce-id: 1\r\ntraceparent: 00-a-b-01\r\n\r\n",
        b"NATS/1.0\r\n\r\n",
        b"NATS/1.0 503\r\n\r\n",
        b"NATS/1.0 100 Idle\r\nNats-Last: 1\r\n\r\n",
        b"NATS/1.0\r\nname:no space\r\n\r\n",
        b"NATS/1.0\r\nutf: gr\xc3\xb6\xc3\x9fe\r\n\r\n",
        b"NATS/1.0\r\ncut",
        b"\xff\xff\xff",
    ]
)


def message(sid: int, subject: bytes, reply: bytes, body: bytes) -> bytes:
    """MSG, as a server writes it."""
    words = [b"MSG", subject, b"%d" % sid, *([reply] if reply else []), b"%d" % len(body)]
    return b" ".join(words) + b"\r\n" + body + b"\r\n"


def headed(sid: int, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> bytes:
    """HMSG, as a server writes it."""
    sizes = [b"%d" % len(headers), b"%d" % (len(headers) + len(body))]
    words = [b"HMSG", subject, b"%d" % sid, *([reply] if reply else []), *sizes]
    return b" ".join(words) + b"\r\n" + headers + body + b"\r\n"


_COMMAND = st.one_of(
    st.builds(message, _SID, _SUBJECT, _REPLY, _BODY),
    st.builds(headed, _SID, _SUBJECT, _REPLY, _HEADERS, _BODY),
    st.sampled_from([b"+OK\r\n", b"PONG\r\n", b"MSG  a  1  2\r\nhi\r\n"]),
)


class Patient(NatsClient):
    """Leaves everything to the library."""

    def _take_messages(self, data: bytes) -> bytes:
        return data


async def heard_by(client: Any, chunks: list[bytes]) -> Heard:
    """What the listeners of a client hear of this from a server."""
    heard: Heard = []

    def listener(sid: int) -> Any:
        def hear(msg: Msg) -> None:
            heard.append((sid, msg.subject, msg.reply, msg.data, msg.headers or None))

        return hear

    async def shrug(_: Exception) -> None: ...

    client._error_cb = shrug
    client._status = Client.CONNECTED
    client._ps = Parser(client)
    client._transport = TcpTransport()  # type: ignore[no-untyped-call]
    reader = client._transport._io_reader = asyncio.StreamReader()
    for sid in LISTENED:
        client._subs[sid] = object()
        client._listeners[sid] = listener(sid)
    reading = asyncio.create_task(client._read_loop())
    await asyncio.sleep(0)
    for chunk in chunks:
        if chunk:
            reader.feed_data(chunk)
        else:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    for _ in range(3 * len(chunks) + 3):
        await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])
    return heard


@st.composite
def _chunks(draw: st.DrawFn) -> list[bytes]:
    """A server's stream, cut anywhere; an empty chunk lets the client read what it has."""
    stream = b"".join(draw(st.lists(_COMMAND, max_size=6)))
    cuts = draw(st.lists(st.integers(0, len(stream)), max_size=6).map(sorted))
    chunks = [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])]
    return [piece for chunk in chunks for piece in ([chunk, b""] if draw(st.booleans()) else [chunk])]


_INSIDE = message(1, b"a", b"", b"MSG a 1 3\r\n...")


@settings(max_examples=500)
@given(_chunks())
@example([_INSIDE[:12], b"", _INSIDE[12:]])
@example([_INSIDE[:12], _INSIDE[12:]])
@example([b"MSG a 1 2\r\nhi", b"\r\n" + _INSIDE])
def test_messages_are_the_same_in_the_same_order(chunks: list[bytes]) -> None:
    assert asyncio.run(heard_by(NatsClient(), chunks)) == asyncio.run(heard_by(Patient(), chunks))


async def test_whole_messages_are_heard_before_the_loop_turns() -> None:
    """That they are read as they come is the point of it."""
    client = NatsClient()
    heard: list[bytes] = []
    client._subs[1] = object()  # type: ignore[assignment]
    client._listeners[1] = lambda msg: heard.append(msg.data)
    stream = (
        message(1, b"a", b"", b"one") + headed(1, b"a", b"b", b"NATS/1.0\r\nx: y\r\n\r\n", b"two") + b"MSG a 1 9\r\nthr"
    )
    assert client._take_messages(stream) == b"MSG a 1 9\r\nthr"
    assert heard == [b"one", b"two"]
