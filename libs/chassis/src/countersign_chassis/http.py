"""An HTTP server inside a service: uvicorn without its signal handlers, and the health and metrics pages."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from countersign_contracts.errors import PROBLEM_JSON, CountersignError, Unavailable

from .metrics import Metrics
from .tls import ServerCertificate
from .tracing import Tracer

#: The longest message that a client may send over a WebSocket, in bytes.
MOST_FRAME_BYTES = 16_384


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the process's own runner handles signals

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell also those who connect at this very moment that it ends: the library waits for them, untold."""
        telling = asyncio.create_task(self._tell_late_comers(set(self.server_state.connections)))
        try:
            await super().shutdown(sockets)
        finally:
            telling.cancel()

    async def _tell_late_comers(self, told: set[Any]) -> None:
        while True:
            await asyncio.sleep(0.02)
            for connection in self.server_state.connections - told:
                told.add(connection)
                connection.shutdown()


class HttpServer:
    """Serves an ASGI application until stopped. ``port`` 0 takes any free one; afterwards ``port`` is the real one.

    With a ``certificate`` it speaks TLS, and nothing else. ``websockets``: whether it takes them.
    """

    def __init__(
        self,
        app: Any,
        host: str,
        port: int,
        certificate: ServerCertificate | None = None,
        *,
        websockets: bool = False,
    ) -> None:
        self.host = host
        self.port = port
        context = certificate.context if certificate is not None else None
        self._server = _Uvicorn(
            uvicorn.Config(
                _ToldWhenCut(app),
                log_level="warning",
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=3,
                loop="none",
                http="httptools",
                ws="wsproto" if websockets else "none",
                ws_max_size=MOST_FRAME_BYTES,
                ws_per_message_deflate=False,  # a small frame could become a large one
                ssl_context_factory=None if context is None else lambda _config, _default: context,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; raises :class:`CountersignError` naming the address if it is taken."""
        listening = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self.host, self.port))
        except OSError as error:
            listening.close()
            raise CountersignError(f"cannot listen on {self.host}:{self.port}: {error.strerror}") from None
        self.port = listening.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise CountersignError(f"the HTTP server on {self.host}:{self.port} ended at once")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Finish what is being answered, then close."""
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.wait([self._task], timeout=4)


class _ToldWhenCut:
    """What is not answered yet when the process ends is told so; the HTTP server would answer a bare 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answered = False

        async def heard(message: MutableMapping[str, Any]) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._app(scope, receive, heard)
        except asyncio.CancelledError:
            if scope["type"] == "http" and not answered:
                problem = Unavailable("this process stops; ask again").problem()
                headers = {"retry-after": "1"}
                cut = JSONResponse(problem, problem["status"], headers, media_type=PROBLEM_JSON)
                await cut(scope, receive, send)
            raise


class TracedApp:
    """An ASGI application whose requests are spans, where their caller asked for it or chance has it so."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["path"].startswith("/health/"):
            await self._app(scope, receive, send)
            return
        given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None)
        method = scope["method"]
        span = self._tracer.begin_here(method, given, {"http.request.method": method})

        async def heard(message: MutableMapping[str, Any]) -> None:
            if span is not None and message["type"] == "http.response.start":
                span.note("http.response.status_code", message["status"])
            await send(message)

        with self._tracer.within(span):
            await self._app(scope, receive, heard)
            route = getattr(scope.get("route"), "path", None)
            if span is not None and isinstance(route, str):
                span.note("http.route", route)


def health_routes(live: Callable[[], dict[str, Any]], unready: Callable[[], list[str]]) -> list[Route]:
    """``/health/live`` and ``/health/ready`` (503 with the reasons)."""

    async def alive(_: Request) -> Response:
        return JSONResponse({"status": "live", **live()})

    async def ready(_: Request) -> Response:
        reasons = unready()
        if reasons:
            return JSONResponse({"status": "not ready", "reasons": reasons}, status_code=503)
        return JSONResponse({"status": "ready", **live()})

    return [Route("/health/live", alive), Route("/health/ready", ready)]


def health_app(live: Callable[[], dict[str, Any]], unready: Callable[[], list[str]], metrics: Metrics) -> Starlette:
    """The health pages and ``/metrics``: for those who operate the service, and on a port of its own."""

    async def render(request: Request) -> Response:
        page, content_type = metrics.page(request.headers.get("accept", ""))
        return Response(page, headers={"content-type": content_type})

    return Starlette(routes=[*health_routes(live, unready), Route("/metrics", render)])
