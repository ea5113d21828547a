"""Countersign on this machine without Docker: embedded servers, one bootstrap step, six services, one supervisor.

The imports are loaded once and the services are forked from them. What runs is written to ``run.json`` in the data
folder, where the other commands find it.
"""

from __future__ import annotations

import asyncio
import http.client
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign_contracts.errors import CountersignError
from countersign_contracts.event import SERVICES

from .bootstrap import Layout, Material, apply_topology, prepare_database, prepare_material, service_settings
from .bootstrap.database import DATABASE, role_of
from .embedded.datadir import DataDir, RunRecord, check_port
from .embedded.nats import EmbeddedNats
from .embedded.postgres import EmbeddedPostgres
from .embedded.specs import Event, EventKind, Service, Spec, Step
from .embedded.supervisor import Supervisor

if TYPE_CHECKING:
    from countersign_chassis import Failpoints

#: Every service but the gateway: the gateway starts when they are ready, so its readiness means that all is.
BACK = tuple(service for service in SERVICES if service != "gateway")


@dataclass(frozen=True)
class LocalOptions:
    """What ``countersign up`` may be told. Ports are on 127.0.0.1 unless ``host`` says otherwise."""

    data_dir: Path = Path(".countersign")
    host: str = "127.0.0.1"
    port: int = 8001
    nats_port: int = 4222
    postgres_port: int | None = None
    health_port: int = 8011
    log_level: str = "info"
    health_port_of: Mapping[str, int] = field(default_factory=dict)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The gateway's address."""
        return f"http://{self.host}:{self.port}"

    @property
    def nats_url(self) -> str:
        """nats-server's address."""
        return f"nats://127.0.0.1:{self.nats_port}"

    def health_ports(self) -> dict[str, int]:
        """Where each service answers /health and /metrics; the gateway does so on its own port."""
        ports = {service: self.health_port + i for i, service in enumerate(BACK)}
        return {"gateway": self.port} | ports | dict(self.health_port_of)

    def with_health_ports(self, ports: Sequence[int]) -> LocalOptions:
        """The same with a chosen port for each service but the gateway."""
        return replace(self, health_port_of=dict(zip(BACK, ports, strict=True)))


class LocalSystem:
    """One data folder and what runs on it. ``failpoints`` are what a test builds the services with."""

    def __init__(self, options: LocalOptions, failpoints: Failpoints | None = None) -> None:
        self.options = replace(options, data_dir=options.data_dir.absolute())
        self.failpoints = failpoints
        self.folder = DataDir(self.options.data_dir)
        self.layout = Layout(self.options.data_dir)

    def run(
        self,
        events: Callable[[Event], None],
        *,
        on_ready: Callable[[], None] | None = None,
        extra: Sequence[Spec] = (),
        until: str | None = None,
    ) -> int:
        """Run until a signal, or until the step ``until`` ends. Raises :class:`EmbeddedError` with one clear line."""
        self.folder.create()
        lock = self.folder.lock()
        options = self.options
        check_port(options.host, options.port, "gateway", "--port")
        check_port("127.0.0.1", options.nats_port, "NATS server", "--nats-port")
        if options.postgres_port is not None:
            check_port("127.0.0.1", options.postgres_port, "PostgreSQL server", "--postgres-port")
        for service, port in options.health_ports().items():
            if service != "gateway":
                check_port("127.0.0.1", port, f"{service} service", "--health-port")
        material = prepare_material(
            self.layout, nats_host="127.0.0.1", nats_port=options.nats_port, ports_file_dir=self.layout.nats
        )
        started: list[str] = []

        def told(event: Event) -> None:
            if started and event.kind is EventKind.READY:  # again, under another pid
                self.folder.write_run(self._record(started[0], supervisor.pids()))
            events(event)

        supervisor = Supervisor(
            [*self._specs(material), *extra],
            logs=self.folder.logs,
            events=told,
            preload=_preload,
            guardian_keeps=[lock],
        )

        def ready() -> None:
            started.append(datetime.now(UTC).isoformat(timespec="seconds"))
            self.folder.write_run(self._record(started[0], supervisor.pids()))
            if on_ready is not None:
                on_ready()

        try:
            return supervisor.run(on_ready=ready, until=until)
        finally:
            self.folder.run.unlink(missing_ok=True)
            self.folder.unlock()

    def _record(self, started: str, pids: Mapping[str, int]) -> RunRecord:
        options = self.options
        return RunRecord(
            pid=os.getpid(),
            started=started,
            pids=dict(pids),
            ports={"nats": options.nats_port, **options.health_ports()},
            urls={"gateway": options.url, "nats": options.nats_url},
        )

    def _specs(self, material: Material) -> list[Spec]:
        options = self.options
        passwords = material.postgres_passwords
        postgres = EmbeddedPostgres(self.folder.postgres, options.postgres_port, passwords["postgres"])
        nats = EmbeddedNats(self.layout.nats_config, self.layout.nats)
        superuser = postgres.dsn("postgres", passwords["postgres"], "postgres")
        ours = postgres.dsn("postgres", passwords["postgres"], DATABASE)

        def bootstrap() -> int:
            async def both() -> None:
                await asyncio.gather(
                    prepare_database(superuser, ours, passwords), apply_topology(options.nats_url, self.layout)
                )

            try:
                asyncio.run(both())
            except CountersignError as error:
                sys.stderr.write(f"{error.detail}\n")
                return 1
            return 0

        specs: list[Spec] = [
            postgres.program(),
            nats.program(),
            Step("bootstrap", bootstrap, after=("postgres", "nats"), again=True),
        ]
        ports = options.health_ports()
        for service in SERVICES:
            settings = service_settings(
                service,
                self.layout,
                nats_url=options.nats_url,
                postgres_dsn=postgres.dsn(role_of(service), passwords[service], DATABASE),
            )
            settings["log_level"] = options.log_level
            if service == "gateway":
                settings |= {"http_host": options.host, "http_port": options.port}
            else:
                settings["health_port"] = ports[service]
            settings |= options.overrides.get(service, {})
            specs.append(
                Service(
                    service,
                    target=_target(service, settings, self.failpoints),
                    after=("bootstrap",) if service != "gateway" else ("bootstrap", *BACK),
                    ready=probe_of("127.0.0.1" if service != "gateway" else options.host, ports[service]),
                )
            )
        return specs


def _target(service: str, settings: dict[str, Any], failpoints: Failpoints | None) -> Callable[[], int]:
    def run_service() -> int:
        from countersign_chassis.run import run

        settings_class = importlib.import_module(f"countersign_{service}.settings").Settings
        build = importlib.import_module(f"countersign_{service}.app").build
        given = () if failpoints is None else (failpoints,)
        return run(lambda: build(settings_class(**settings), *given))

    return run_service


def probe_of(host: str, port: int, path: str = "/health/ready") -> Callable[[], bool]:
    """A probe: whether the address answers 200."""

    def probe() -> bool:
        connection = http.client.HTTPConnection(host, port, timeout=0.4)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return probe


def _preload() -> None:
    """Load what the services need once; every forked service shares that memory."""
    importlib.import_module("countersign_chassis.run")
    for service in SERVICES:
        importlib.import_module(f"countersign_{service}.settings")
        importlib.import_module(f"countersign_{service}.app")
