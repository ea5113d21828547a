"""The HTTP server of a service, on a real socket."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from countersign_chassis.http import HttpServer


async def test_whoever_waits_when_the_process_ends_is_told_to_come_back() -> None:
    """Found by faults: the HTTP server itself answered a bare 500."""
    begun = asyncio.Event()

    async def for_ever(_: Request) -> Response:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    server = HttpServer(Starlette(routes=[Route("/", for_ever)]), "127.0.0.1", 0)
    await server.start()
    async with httpx.AsyncClient(timeout=30) as client:
        waiting = asyncio.create_task(client.get(f"http://127.0.0.1:{server.port}/"))
        await begun.wait()
        await server.stop()
        answer = await waiting
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "this process stops; ask again"


async def test_who_connects_while_it_ends_is_told_so_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Found under load: such a connection was told nothing, waited for, and left open after three seconds."""
    server = HttpServer(Starlette(), "127.0.0.1", 0)
    await server.start()
    loop, there = asyncio.get_running_loop(), asyncio.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listening.getsockname())
    accepted, _ = listening.accept()
    told_all = uvicorn.Server._wait_tasks_to_complete

    async def with_one_more(self: Any) -> None:
        """The others have been told by now."""
        protocol = self.config.http_protocol_class(config=self.config, server_state=self.server_state, app_state={})
        await loop.connect_accepted_socket(lambda: protocol, accepted)
        there.set()
        await told_all(self)

    monkeypatch.setattr(uvicorn.Server, "_wait_tasks_to_complete", with_one_more)
    await server.stop()
    assert there.is_set() and not server._server.server_state.connections
    client.settimeout(5)
    with suppress(ConnectionResetError):
        assert client.recv(1) == b""
    for each in (client, listening):
        each.close()
    assert "timeout graceful shutdown exceeded" not in capfd.readouterr().err
