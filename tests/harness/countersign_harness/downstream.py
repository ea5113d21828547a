"""A business system that counts: every call with its method, path, body and idempotency key."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Downstream:
    """Answers ``answer`` to everything, after ``gate`` is open, and remembers what was asked."""

    status: int = 200
    answer: Any = field(default_factory=lambda: {"ok": True})
    calls: list[dict[str, Any]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    drop_after_effect: bool = False
    port: int = 0
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        self.gate.set()
        app = web.Application(client_max_size=8 * 1024 * 1024)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    async def stop(self) -> None:
        """Stop listening."""
        self.gate.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.calls.append(
            {
                "method": request.method,
                "path": request.path_qs,
                "key": request.headers.get("Idempotency-Key"),
                "traceparent": request.headers.get("traceparent"),
                "body": body.decode(),
            }
        )
        await self.gate.wait()
        if self.drop_after_effect:
            assert request.transport is not None
            request.transport.close()
        return web.json_response(self.answer, status=self.status)
