"""The HTTP server of a service, on a real socket."""

from __future__ import annotations

import asyncio

import httpx
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
