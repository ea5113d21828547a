"""What every service measures of its work: messages, commands, HTTP requests, waiting for a database connection.

How much waits for its consumers is in :mod:`.queue_watch`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import asyncpg
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Receive, Scope, Send

from countersign_contracts.errors import CountersignError

from .metrics import OTHER, SIZE_BUCKETS, Metrics

if TYPE_CHECKING:
    _Pool = asyncpg.Pool[asyncpg.Record]
else:
    _Pool = asyncpg.Pool

#: ``refused``: the asker is told what was wrong with the command; ``unavailable``: it may try again; ``failed``: ours.
Outcome = Literal["ok", "refused", "unavailable", "failed"]


def outcome_of(error: CountersignError) -> Outcome:
    """How an answered problem counts."""
    if error.code in ("unavailable", "at_capacity", "overloaded"):
        return "unavailable"
    return "failed" if error.code == "internal" else "refused"


@dataclass(frozen=True, slots=True)
class ConsumerMetrics:
    """What every consumer counts; one set a service."""

    handled: Counter
    failed: Counter
    dead: Counter
    redelivered: Counter
    batch: Histogram
    duration: Histogram

    @classmethod
    def of(cls, metrics: Metrics) -> ConsumerMetrics:
        """Register them."""
        return cls(
            handled=metrics.counter("countersign_messages_handled", "Messages acknowledged", ["consumer"]),
            failed=metrics.counter("countersign_messages_failed", "Handler failures (tried again)", ["consumer"]),
            dead=metrics.counter("countersign_messages_dead", "Messages dead-lettered", ["consumer"]),
            redelivered=metrics.counter(
                "countersign_messages_redelivered", "Messages that were delivered before and not settled", ["consumer"]
            ),
            batch=metrics.histogram("countersign_batch_size", "Messages a batch", ["consumer"], SIZE_BUCKETS),
            duration=metrics.histogram("countersign_handler_seconds", "Time to handle a batch", ["consumer"]),
        )

    def bound(self, consumer: str) -> ConsumerMetrics:
        """Those of one consumer, which are shown from now on, with nothing counted yet."""
        return ConsumerMetrics(
            **{each.name: getattr(self, each.name).labels(consumer) for each in dataclasses.fields(self)}
        )


class CommandMetrics:
    """Rate, errors and duration of the commands that a service answers."""

    def __init__(self, metrics: Metrics) -> None:
        self._seconds = metrics.histogram(
            "countersign_command_seconds", "Time to answer a command of another service", ["command"]
        )
        self._answered = metrics.counter(
            "countersign_commands", "Commands answered, by outcome", ["command", "outcome"]
        )

    def expect(self, command: str) -> None:
        """Show a command from now on, with nothing counted yet; its durations with the first of them.

        A histogram is 17 lines of the page, which would mostly be of commands that nobody asks for.
        """
        for outcome in get_args(Outcome):
            self._answered.labels(command, outcome)

    def observe(self, command: str, outcome: Outcome, seconds: float) -> None:
        """One command was answered."""
        self._seconds.labels(command).observe(seconds)
        self._answered.labels(command, outcome).inc()


class MeasuredApp:
    """An ASGI application whose requests are counted by route (its template, never the path), method and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._seconds = metrics.histogram(
            "countersign_http_request_seconds",
            "Time to answer an HTTP request, a wait that the caller asked for included",
            ["route", "method"],
        )
        self._requests = metrics.counter(
            "countersign_http_requests", "HTTP requests answered, by status", ["route", "method", "status"]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def heard(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, heard)
        finally:
            route, method = _route(scope), _method(scope)
            self._seconds.labels(route, method).observe(time.perf_counter() - began)
            self._requests.labels(route, method, str(status)).inc()


def _route(scope: Scope) -> str:
    """The template of the path, where a route took the request; whatever else was asked for is one value."""
    found = getattr(scope.get("route"), "path", None)
    return found if found and isinstance(found, str) else OTHER


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS") else OTHER


class DatabaseMetrics:
    """The connections: how many are open and idle, how long one is waited for."""

    def __init__(self, metrics: Metrics) -> None:
        self._connections = metrics.gauge(
            "countersign_database_connections",
            "Connections of the pool: open and idle ones, and the most allowed",
            ["of"],
        )
        self.wait = metrics.histogram(
            "countersign_database_wait_seconds", "Time until the pool gave a connection, opening one included"
        )

    def watch(self, pools: Sequence[asyncpg.Pool[asyncpg.Record]], idle: Callable[[], int]) -> None:
        """Show these pools together from now on."""
        self._connections.labels("open").set_function(lambda: sum(pool.get_size() for pool in pools))
        self._connections.labels("idle").set_function(idle)
        self._connections.labels("most").set_function(lambda: sum(pool.get_max_size() for pool in pools))


class MeasuredPool(_Pool):
    """A pool that measures how long each connection is waited for, whichever method asks for it.

    All of them go through ``_acquire`` of the library's (0.32), which is pinned; tests/test_measured.py would miss it.
    """

    waited: Callable[[float], None]

    async def _acquire(self, timeout: float | None) -> Any:  # noqa: ASYNC109  (the library's own)
        began = time.perf_counter()
        try:
            return await super()._acquire(timeout)  # type: ignore[misc]
        finally:
            self.waited(time.perf_counter() - began)
