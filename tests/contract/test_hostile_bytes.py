"""Nothing that an agent can put on the wire makes a service deaf: what comes after it is heard.

The server passes on what a client library would not send: headers cut short, a status where none belongs, bytes that
are no UTF-8. So these are written to the socket by hand, as an agent, and the service listens as services do.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import structlog
from nats.aio.msg import Msg

from countersign_chassis.connection import NatsConnection
from countersign_chassis.natsauth import KeyPair

if TYPE_CHECKING:
    from .conftest import Deployment

pytestmark = pytest.mark.asyncio(loop_scope="module")


def published(subject: bytes, headers: bytes, body: bytes = b"hostile", reply: bytes = b"_INBOX.mallory.1") -> bytes:
    sizes = b"%d %d" % (len(headers), len(headers) + len(body))
    return b"HPUB " + b" ".join([subject, reply, sizes]) + b"\r\n" + headers + body + b"\r\n"


HOSTILE = {
    "a status that is not UTF-8": published(b"agents.mallory.call", b"NATS/1.0 \xff\xff\xff\r\n\r\n"),
    "a description that is not UTF-8": published(b"agents.mallory.call", b"NATS/1.0 200 \xff\xfe\r\n\r\n"),
    "headers cut short": published(b"agents.mallory.call", b"x\r\n\r\n"),
    "no headers where some are announced": published(b"agents.mallory.call", b"NATS/1.0\r\n\r\n"),
    "a name and a value that are not UTF-8": published(b"agents.mallory.call", b"NATS/1.0\r\n\xff: \xff\r\n\r\n"),
    "a status of the server's": published(b"agents.mallory.call", b"NATS/1.0 409 Consumer Deleted\r\n\r\n", b""),
    "a heartbeat of the server's": published(b"agents.mallory.call", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n", b""),
    "a reply subject of 12 KiB": b"PUB agents.mallory.call _INBOX.mallory." + b"x" * 12288 + b" 7\r\nhostile\r\n",
    "a reply subject that is not UTF-8": b"PUB agents.mallory.call _INBOX.mallory.\xff\xfe 7\r\nhostile\r\n",
}


def send(url: str, creds: Path, raw: bytes) -> bytes:
    """Write bytes to the socket as that user; what the server says to it."""
    jwt, seed = (block.split("\n")[1] for block in creds.read_text().split("-----BEGIN")[1:])
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=5) as line:
        nonce = json.loads(line.recv(65536).split(b"\r\n")[0].removeprefix(b"INFO "))["nonce"]
        signature = base64.urlsafe_b64encode(KeyPair.from_seed(seed).sign(nonce.encode())).rstrip(b"=").decode()
        connect = {"jwt": jwt, "sig": signature, "verbose": False, "protocol": 1, "headers": True}
        line.sendall(f"CONNECT {json.dumps(connect)}\r\n".encode() + raw + b"PING\r\n")
        said = b""
        while b"PONG" not in said and b"-ERR" not in said:
            said += line.recv(65536)
        return said


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_service_hears_what_comes_after_it(deployment: Deployment, raw: bytes) -> None:
    layout = deployment.stack.layout
    mallory = await deployment.agent("mallory")
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    def hear(msg: Msg) -> None:
        heard.put_nowait(msg.data)

    gateway = NatsConnection(
        deployment.stack.nats_url, layout.creds("gateway-agents"), "gateway", structlog.get_logger()
    )
    await gateway.open()
    try:
        await gateway.client.listen("agents.*.call", hear)
        await gateway.client.flush()
        said = await asyncio.to_thread(send, deployment.stack.nats_url, layout.root / "mallory.creds", raw)
        assert b"-ERR" not in said, "the server lets it through"
        await mallory.client.publish("agents.mallory.call", b"harmless")
        async with asyncio.timeout(3):
            while await heard.get() != b"harmless":
                pass
    finally:
        await gateway.close()
