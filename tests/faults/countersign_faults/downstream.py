"""The business system: it counts every call with its key, and can be slow, break, or take the effect and hang up.

`drops` hangs up before it answers, `cuts` in the middle of its answer; `breaks` answers 500 and has done nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from aiohttp import web

from .declarations import TOLD
from .history import Call

Mood = Literal["well", "slow", "drops", "cuts", "breaks"]

SLOW_S = 0.8


class CountingDownstream:
    """``async with`` it. ``mood`` holds for the calls that arrive from now on. ``port`` 0 takes any."""

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self.calls: list[Call] = []
        self.mood: Mood = "well"
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> CountingDownstream:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == TOLD:
            return web.json_response({})
        at, mood = time.time(), self.mood
        body = (await request.read()).decode()
        key = request.headers.get("Idempotency-Key")
        self.calls.append(Call(at, request.method, request.path_qs, key, body, applied=mood != "breaks"))
        if mood == "slow":
            await asyncio.sleep(SLOW_S)
        if mood == "drops" and request.transport is not None:
            request.transport.close()
        if mood == "cuts" and request.transport is not None:
            half = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
            await half.prepare(request)
            await half.write(b'{"ok": tr')
            request.transport.close()
            return half
        return web.json_response({"ok": mood != "breaks"}, status=500 if mood == "breaks" else 200)
