"""A service: its connections, consumers, answers and health, started and stopped in one visible order.

Start: health page, database, migrations, bus, mirrors, ``on_start``, answers, consumers, background loops.
Stop: the reverse. A server that is away at start is waited for, and ``/health/ready`` says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from starlette.routing import Route

from countersign_contracts.command import Command
from countersign_contracts.dead_letter_commands import REDRIVES
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.model import Frozen
from countersign_contracts.projection import Bucket
from countersign_contracts.topology import consumer
from countersign_ledger import SigningKey, TrustBundle

from .bus import Bus
from .connection import NatsConnection
from .consumer import EventConsumer
from .database import Database
from .database_watch import DatabaseWatch
from .delivery import Handler, Opener, RawHandler
from .failpoints import NO_FAILPOINTS, Failpoints
from .http import HttpServer, TracedApp, health_app, health_routes
from .logs import logger
from .measured import ConsumerMetrics, MeasuredApp
from .metrics import Metrics
from .projections import Mirror, Projector
from .queue_watch import QueueWatch
from .redriving import Redriving
from .settings import ServiceSettings
from .sodium import signer, verifier
from .tls import Renewal, ServerCertificate, trusting
from .tracing import Tracer

P = TypeVar("P", bound=Frozen)
C = TypeVar("C", bound=Command)
Async = Callable[[], Awaitable[None]]


class Service:
    """Wired by ``build()``; nothing connects before ``start``. ``hot``: see :class:`Database`."""

    def __init__(
        self, name: str, settings: ServiceSettings, failpoints: Failpoints = NO_FAILPOINTS, *, hot: int = 0
    ) -> None:
        self.name = name
        self.settings = settings
        self.failpoints = failpoints
        instance = settings.instance or name
        self.log = logger(name, settings.log_level)
        if instance != name:
            self.log = self.log.bind(instance=instance)
        self.key = SigningKey.from_json(_read(settings.signing_key_file, "signing key"), signer)
        self.trust = TrustBundle.from_json(_read(settings.trust_file, "trust bundle"), verifier)
        self.metrics = Metrics()
        self.tracer = Tracer(name, _version(name), instance, settings.otlp_url, settings.trace_ratio)
        self.db = Database(
            settings.postgres_dsn, pool_max=settings.postgres_pool_max, name=instance, hot=hot, metrics=self.metrics
        )
        self._database_watch = DatabaseWatch(self.db, name, self.log)
        self._tls = trusting(settings.nats_ca_file)
        self.bus = Bus(
            settings.nats_url,
            settings.nats_core_creds_file,
            self.key,
            self.trust,
            self.log,
            name,
            instance,
            self.metrics,
            self.tracer,
            self._tls,
        )
        self._consumer_metrics = ConsumerMetrics.of(self.metrics)
        self._background_failures = self.metrics.counter(
            "countersign_background_failures", "Background loops that raised and were restarted", ["loop"]
        )
        self._certificate_left = self.metrics.gauge(
            "countersign_certificate_left_seconds",
            "Until a certificate expires: `http` the one shown to callers, `nats` the one nats-server showed last",
            ["certificate"],
        )
        self._on_reload: list[Callable[[], None]] = []
        self._connections: list[NatsConnection] = [self.bus.connection]
        if self._tls is not None:
            self._certificate_left.labels("nats").set_function(self.bus.connection.certificate_left_s)
        self._migrations: list[str] = []
        self._mirrors: list[Mirror[Any]] = []
        self._answers: list[tuple[type[Command], Callable[[Any, str], Awaitable[Frozen]]]] = []
        self._consumers: list[EventConsumer] = []
        self._backgrounds: list[tuple[str, Async]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._on_start: list[Async] = []
        self._on_stop: list[Async] = []
        self._ready_checks: dict[str, Callable[[], str | None]] = {}
        self._told: dict[str, Callable[[], str]] = {}
        self._queue_watch = QueueWatch(self._consumers, self.metrics, self.log)
        self._started_at = time.monotonic()
        self._state = "not started"
        self._tell_about()
        self.health = HttpServer(
            health_app(self.about, self.unready, self.metrics), settings.health_host, settings.health_port
        )
        #: Where the service's own callers reach it; one that has none of those is reached on its health port alone.
        self.http = self.health

    # --- wiring -----------------------------------------------------------------------------------

    def migrations(self, package: str) -> None:
        """Run ``package``'s ``migrations/*.sql`` at start."""
        self._migrations.append(package)

    def connection(self, name: str, creds_file: Path | None) -> NatsConnection:
        """A further NATS connection, as another user (for a service that stands in both accounts)."""
        connection = NatsConnection(
            self.settings.nats_url, creds_file, name, self.log, self.settings.instance, self._tls
        )
        self._connections.append(connection)
        return connection

    def consume(
        self,
        name: str,
        handler: Handler,
        *,
        max_batch: int = 128,
        concurrency: int = 1,
        max_tries: int = 8,
        linger_s: float = 0.0,
        skip: Callable[[dict[str, str]], bool] | None = None,
        opener: Opener | None = None,
    ) -> EventConsumer:
        """Feed verified events of the topology's consumer ``name`` to ``handler``; the options are the consumer's."""
        return self._consume(
            name,
            handler,
            None,
            True,
            max_batch=max_batch,
            concurrency=concurrency,
            max_tries=max_tries,
            linger_s=linger_s,
            skip=skip,
            opener=opener,
        )

    def consume_raw(
        self,
        name: str,
        handler: RawHandler,
        *,
        connection: NatsConnection | None = None,
        max_batch: int = 128,
        concurrency: int = 1,
        max_tries: int = 8,
        bury_body: bool = True,
        room: Callable[[], Awaitable[int]] | None = None,
    ) -> EventConsumer:
        """Feed messages as they arrived; ``connection`` where the stream is in another account."""
        return self._consume(
            name,
            handler,
            connection,
            False,
            max_batch=max_batch,
            concurrency=concurrency,
            max_tries=max_tries,
            bury_body=bury_body,
            room=room,
        )

    def _consume(
        self, name: str, handler: Any, connection: NatsConnection | None, verify: bool, **options: Any
    ) -> EventConsumer:
        built = EventConsumer(
            consumer(name),
            connection or self.bus.connection,
            self.bus,
            self.trust,
            handler,
            self._consumer_metrics,
            self.log,
            verify=verify,
            tracer=self.tracer,
            **options,
        )
        self._consumers.append(built)
        return built

    def answer(self, kind: type[C], handler: Callable[[C], Awaitable[Frozen]]) -> None:
        """Answer a command."""
        self._answers.append((kind, lambda command, _: handler(command)))

    def answer_caller(self, kind: type[C], handler: Callable[[C, str], Awaitable[Frozen]]) -> None:
        """Answer a command for which it matters which service asks: the handler gets its name, too."""
        self._answers.append((kind, handler))

    def mirror(self, bucket: Bucket) -> Mirror[Any]:
        """Follow a bucket."""
        mirror: Mirror[Any] = Mirror(bucket, bucket.model, self.bus.connection, self.trust, self.log)
        self._mirrors.append(mirror)
        return mirror

    def projector(self, bucket: Bucket) -> Projector:
        """Write the bucket that this service owns."""
        return Projector(bucket, self.bus.connection, self.key)

    def on_start(self, action: Async) -> None:
        """After migrations and mirrors, before anything is answered or consumed."""
        self._on_start.append(action)

    def on_stop(self, action: Async) -> None:
        """After consumers ended, before connections close; last added runs first."""
        self._on_stop.append(action)

    def background(self, loop: Async, name: str) -> None:
        """Run ``loop`` for as long as the service lives; if it raises, again after a pause."""
        self._backgrounds.append((name, loop))
        self._background_failures.labels(name)  # shown from now on

    def ready_check(self, name: str, check: Callable[[], str | None]) -> None:
        """A further condition for readiness: returns the reason it is not met, or None."""
        self._ready_checks[name] = check

    def tells(self, name: str, what: Callable[[], str]) -> None:
        """A further field of the health pages, for people: it does not change readiness."""
        self._told[name] = what

    def health_routes(self) -> list[Route]:
        """The health pages, for a service whose own callers ask for them, too: without its metrics."""
        return health_routes(self.about, self.unready)

    def serve(
        self, app: Any, host: str, port: int, certificate: ServerCertificate | None = None, *, check_s: float = 10
    ) -> None:
        """Serve an application of the service's own, measured, beside the health port.

        With a ``certificate`` it is served over TLS. Its files are looked at every ``check_s`` seconds, and at once
        after :meth:`reload`; what they hold then is shown to new connections.
        """
        followed = TracedApp(app, self.tracer) if self.tracer.on else app
        self.http = HttpServer(MeasuredApp(followed, self.metrics), host, port, certificate, websockets=True)
        if certificate is not None:
            renewal = Renewal(certificate, self.log, check_s)
            self._on_reload.append(renewal.look)
            self._certificate_left.labels("http").set_function(certificate.seconds_left)
            self.ready_check("certificate", certificate.trouble)
            self.background(renewal.run, "certificate")

    def reload(self) -> None:
        """Look at once at files that may have been renewed."""
        for action in self._on_reload:
            action()

    # --- health -----------------------------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        """Name, version and uptime in seconds."""
        return {
            "service": self.name,
            "version": _version(self.name),
            "uptime_s": round(time.monotonic() - self._started_at, 1),
            **{name: what() for name, what in self._told.items()},
        }

    def unready(self) -> list[str]:
        """Why the service cannot work now; empty when it can."""
        reasons = [] if self._state == "running" else [self._state]
        if self._state == "running":
            reasons += [
                f"nats-server does not answer {c.name} ({c.last_error or 'disconnected'})"
                for c in self._connections
                if not c.connected
            ]
        reasons += [] if self._database_watch.trouble is None else [self._database_watch.trouble]
        reasons += [each.trouble for each in self._consumers if each.trouble is not None]
        reasons += [f"{name}: {reason}" for name, check in self._ready_checks.items() if (reason := check())]
        return reasons

    def _tell_about(self) -> None:
        """Readiness and version as metrics."""
        ready = self.metrics.gauge(
            "countersign_ready", "1 when the service can work; 0: /health/ready says why not, e.g. what it waits for"
        )
        ready.set_function(lambda: 0.0 if self.unready() else 1.0)
        info = self.metrics.gauge(
            "countersign_service_info", "Always 1; which service and version this is", ["service", "version"]
        )
        info.labels(self.name, _version(self.name)).set(1)

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything; returns when the service works. Raises what waiting will not mend."""
        self._started_at = time.monotonic()
        for server in dict.fromkeys((self.health, self.http)):
            await server.start()
        await self._wait_for("PostgreSQL", self._database_watch.open)
        for package in self._migrations:
            await self._wait_for("the schema", partial(self.db.migrate, package))
        for connection in self._connections:
            await self._wait_for("nats-server", connection.open)
        self._state = "reading projections"
        await asyncio.gather(*(mirror.start() for mirror in self._mirrors))
        self._state = "starting"
        for action in self._on_start:
            await action()
        for kind, handler in self._answers:
            await self.bus.answer_caller(kind, handler)
        if kind_of_redrive := REDRIVES.get(self.name):
            redriving = Redriving(self.name, self.trust, self._consumers, self.log)
            await redriving.start(self.bus, kind_of_redrive)
        for connection in self._connections:
            await connection.barrier()
        for each in self._consumers:
            await self._wait_for("JetStream", each.start)
        backgrounds = [
            *self._backgrounds,
            ("queue watch", self._queue_watch.run),
            ("database", self._database_watch.run),
        ]
        self._tasks = [asyncio.create_task(self._supervise(name, loop)) for name, loop in backgrounds]
        self._state = "running"
        self.log.info("running", health_port=self.health.port)

    async def stop(self) -> None:
        """Stop in the reverse order; what was begun may finish within the grace period. Again it does nothing."""
        if self._state == "stopped":
            return
        self._state = "stopping"
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(each.stop(self.settings.shutdown_grace_s) for each in self._consumers))
        for action in reversed(self._on_stop):
            await action()
        for mirror in self._mirrors:
            await mirror.stop()
        for connection in self._connections:
            await connection.close()
        await self.db.close()
        await asyncio.gather(*(server.stop() for server in dict.fromkeys((self.http, self.health))))
        await asyncio.to_thread(self.tracer.close)
        self._state = "stopped"

    async def _wait_for(self, what: str, action: Callable[[], Awaitable[object]]) -> None:
        pause = 0.05
        self._state = f"waiting for {what}"
        while True:
            try:
                await action()
                return
            except Unavailable as error:
                self._state = f"waiting for {what}: {error.detail}"
                self.log.warning("waiting", what=what, reason=error.detail)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)

    async def _supervise(self, name: str, loop: Async) -> None:
        pause = 0.1
        while True:
            began = time.monotonic()
            try:
                await loop()
                return
            except Exception as error:
                self._background_failures.labels(name).inc()
                self.log.warning("background loop failed; again soon", loop=name, error=str(error) or repr(error))
            if time.monotonic() - began > 30:
                pause = 0.1
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise CountersignError(
            f"cannot read the {what} at {path}: {error.strerror}; `countersign up` has bootstrap write it"
        ) from None


def _version(name: str) -> str:
    try:
        return version(f"countersign-{name}")
    except PackageNotFoundError:
        return "unknown"
