"""The client that services speak through: what it sends, what it hears, and what it does while the server is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import nats.errors
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.aio.msg import Msg

from countersign_chassis.client import NatsClient
from countersign_chassis.connection import NatsConnection

_NAME = st.text(st.characters(codec="ascii", exclude_characters=" :\r\n", min_codepoint=33), min_size=1, max_size=12)
_VALUE = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=20).map(str.strip)


@pytest.fixture
async def connection(bare_nats: Any) -> AsyncIterator[NatsConnection]:
    connection = NatsConnection(str(bare_nats.url()), None, "tester", structlog.get_logger())
    await connection.open()
    yield connection
    await connection.close()


class Heard:
    """Messages as they come."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Msg] = asyncio.Queue()

    def __call__(self, msg: Msg) -> None:
        self.queue.put_nowait(msg)

    async def next(self) -> Msg:
        async with asyncio.timeout(10):
            return await self.queue.get()


@given(st.dictionaries(_NAME, _VALUE, max_size=5))
def test_headers_are_read_as_the_library_reads_them(headers: dict[str, str]) -> None:
    block = b"NATS/1.0\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()).encode() + b"\r\n"

    async def read(client: Client) -> Any:
        return await client._process_headers(block)

    quick, library = asyncio.run(read(NatsClient())), asyncio.run(read(Client()))
    assert (quick or {}) == (library or {}) == headers


async def test_who_listens_no_more_is_not_called_back_and_leaves_nothing_behind(connection: NatsConnection) -> None:
    gone, heard = Heard(), Heard()
    inbox = connection.client.new_inbox()
    subscription = await connection.client.listen(inbox, gone)
    await connection.client.unlisten(subscription)
    await connection.client.listen(inbox, heard)
    connection.client.send(inbox, b"1")
    assert (await heard.next()).data == b"1" and gone.queue.empty()
    assert subscription._id not in connection.client._listeners


async def test_what_is_sent_is_heard_in_order_with_headers_and_reply(connection: NatsConnection) -> None:
    heard = Heard()
    inbox = connection.client.new_inbox()
    await connection.client.listen(f"{inbox}.*", heard)
    headers = {"ce-id": "1", "ce-subject": "a: b", "empty": "", "utf": "größer"}
    connection.client.send(f"{inbox}.1", b"one", headers=headers)
    connection.client.send_unhurried(f"{inbox}.2", b"two")
    connection.client.send(f"{inbox}.3", reply="x.y")
    first, second, third = [await heard.next() for _ in range(3)]
    assert (first.data, first.headers) == (b"one", headers)
    assert (second.data, second.headers) == (b"two", None)
    assert (third.data, third.reply) == (b"", "x.y")


async def test_what_waits_for_company_does_not_wait_for_ever(connection: NatsConnection) -> None:
    heard = Heard()
    inbox = connection.client.new_inbox()
    await connection.client.listen(inbox, heard)
    await connection.barrier()
    connection.client.send_unhurried(inbox, b"alone")
    assert (await heard.next()).data == b"alone"


@pytest.mark.parametrize("value", ["a\r\nNats-Rollup: all", "a\nb", "a\rb"])
async def test_a_line_break_adds_no_header(connection: NatsConnection, value: str) -> None:
    with pytest.raises(nats.errors.BadHeaderError):
        connection.client.send("x", headers={"traceparent": value})


async def test_what_the_server_would_hang_up_on_is_not_sent(connection: NatsConnection) -> None:
    """Headers count: with them a message can be too large whose body is not."""
    heard = Heard()
    client, headers = connection.client, {"one": "1", "two": "x" * 100}
    await client.listen("large", heard)
    room = client._max_payload - len("NATS/1.0\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n")
    for size, told in ((room + 1, headers), (client._max_payload, headers), (client._max_payload + 1, None)):
        with pytest.raises(nats.errors.MaxPayloadError):
            client.send("large", b"x" * size, headers=told)
    client.send("large", b"x" * room, headers=headers)
    client.send("large", b"x" * client._max_payload)
    assert [len((await heard.next()).data), len((await heard.next()).data)] == [room, client._max_payload]
    assert client.is_connected and client.stats["reconnects"] == 0


async def test_a_listener_that_raises_is_reported_and_the_next_message_heard(connection: NatsConnection) -> None:
    heard = Heard()
    inbox = connection.client.new_inbox()

    def listener(msg: Msg) -> None:
        if msg.data == b"bad":
            raise RuntimeError("cannot")
        heard(msg)

    await connection.client.listen(inbox, listener)
    connection.client.send(inbox, b"bad")
    connection.client.send(inbox, b"good")
    assert (await heard.next()).data == b"good"
    assert connection.last_error == "cannot"


async def test_nothing_is_heard_after_unsubscribing(connection: NatsConnection) -> None:
    heard = Heard()
    inbox = connection.client.new_inbox()
    subscription = await connection.client.listen(inbox, heard)
    connection.client.send(inbox, b"before")
    await heard.next()
    await subscription.unsubscribe()
    connection.client.send(inbox, b"after")
    await connection.barrier()
    assert heard.queue.empty()


async def test_what_is_sent_while_the_server_is_away_arrives_when_it_is_back(
    bare_nats: Any, connection: NatsConnection
) -> None:
    heard, back = Heard(), asyncio.Event()

    async def note() -> None:
        back.set()

    connection.on_reconnect(note)
    inbox = connection.client.new_inbox()
    await connection.client.listen(inbox, heard)
    await asyncio.to_thread(bare_nats.stop)
    async with asyncio.timeout(10):
        while connection.connected:
            await asyncio.sleep(0.01)
    connection.client.send(inbox, b"kept")
    connection.client.send_unhurried(inbox, b"too")
    await asyncio.to_thread(bare_nats.start)
    async with asyncio.timeout(20):
        await back.wait()
    assert [(await heard.next()).data for _ in range(2)] == [b"kept", b"too"]


async def test_a_closed_connection_says_so() -> None:
    client = NatsClient()
    client._status = Client.CLOSED
    with pytest.raises(nats.errors.ConnectionClosedError):
        client.send("x")


async def test_a_request_that_nobody_answers_ends(connection: NatsConnection) -> None:
    with pytest.raises(nats.errors.NoRespondersError):
        await connection.request("rpc.nobody.listens", b"", {}, 5)
    inbox = connection.client.new_inbox()
    await connection.client.listen(inbox, lambda _: None)
    with pytest.raises(TimeoutError):
        await connection.request(inbox, b"", {}, 0.05)
    assert not connection._awaited


@pytest.mark.parametrize("noticed", [True, False])
async def test_to_close_while_the_server_is_away_is_no_error(
    bare_nats: Any, connection: NatsConnection, noticed: bool
) -> None:
    """Found by a service that was stopped while its server was started anew: it ended with a stack trace."""
    client = connection.client
    await asyncio.to_thread(bare_nats.stop)
    if noticed:
        async with asyncio.timeout(10):
            while connection.connected:
                await asyncio.sleep(0.01)
    client.send("x", b"never read")
    transport = client._transport
    await connection.close()
    assert client.is_closed and transport is not None
    assert transport._io_writer.is_closing()  # type: ignore[attr-defined]
    await asyncio.to_thread(bare_nats.start)
