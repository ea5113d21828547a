"""Countersign on this machine without Docker: embedded servers, one bootstrap step, six services and Slack where it
is configured (of each as many processes as wanted), one supervisor.

The imports are loaded once and the services are forked from them. What runs is written to ``run.json`` in the data
folder, where the other commands find it.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign_contracts.errors import CountersignError
from countersign_contracts.services import CORE_SERVICES

from .bootstrap import (
    Layout,
    Material,
    WrongSettings,
    apply_topology,
    build_service,
    prepare_database,
    prepare_material,
    service_settings,
)
from .bootstrap.database import DATABASE, role_of
from .embedded.datadir import DataDir, RunRecord, check_port
from .embedded.errors import EmbeddedError, MayPass
from .embedded.nats import EmbeddedNats
from .embedded.postgres import EmbeddedPostgres
from .embedded.probes import http_ready
from .embedded.specs import Event, EventKind, Service, Spec, Step
from .embedded.supervisor import Supervisor
from .replicas import Replica, all_replicas

if TYPE_CHECKING:
    from countersign_chassis import Failpoints

#: The gateway is last: it starts when the others are ready, so its readiness means that all is.
_ORDER = (*(service for service in CORE_SERVICES if service != "gateway"), "gateway")
#: Connections to PostgreSQL that the services share: the embedded server takes 120.
_DATABASE_CONNECTIONS = 96


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
    agents_dirs: tuple[Path, ...] = ()
    replicas: Mapping[str, int] = field(default_factory=dict)
    slack: bool = False
    health_port_of: Mapping[str, int] = field(default_factory=dict)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    http_cert_file: Path | None = None
    http_key_file: Path | None = None

    @property
    def url(self) -> str:
        """The gateway's address."""
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def scheme(self) -> str:
        """How the gateway is spoken to."""
        return "http" if self.http_cert_file is None else "https"

    @property
    def nats_url(self) -> str:
        """nats-server's address."""
        return f"nats://127.0.0.1:{self.nats_port}"

    def services(self) -> tuple[str, ...]:
        """What runs: the optional ones where they are configured."""
        return (*CORE_SERVICES, "slack") if self.slack else CORE_SERVICES

    def processes(self) -> list[Replica]:
        """Every process of a service."""
        return list(all_replicas(self.replicas, self.services()))

    def health_ports(self) -> dict[str, int]:
        """Where each replica answers /health and /metrics.

        They count from ``health_port``: the first replica of each service, of the optional ones after the others, then
        the further replicas.
        """
        order = (*_ORDER, *(service for service in self.services() if service not in _ORDER))
        ordered = sorted(self.processes(), key=lambda replica: (replica.number > 1, order.index(replica.service)))
        found = {replica.name: self.health_port + i for i, replica in enumerate(ordered)} | dict(self.health_port_of)
        return {replica.name: found[replica.name] for replica in self.processes()}

    def gateway_ports(self) -> dict[str, int]:
        """The public port of each gateway."""
        return {r.name: self.port + r.number - 1 for r in self.processes() if r.service == "gateway"}

    def with_health_ports(self, ports: Sequence[int]) -> LocalOptions:
        """The same with a chosen port for each service, in the order of ``CORE_SERVICES``."""
        return replace(self, health_port_of=dict(zip(CORE_SERVICES, ports, strict=True)))


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
        self._check_ports()
        material = prepare_material(
            self.layout, nats_host="127.0.0.1", nats_port=options.nats_port, ports_file_dir=self.layout.nats
        )
        started: list[str] = []

        def told(event: Event) -> None:
            if started and event.kind in (EventKind.STARTED, EventKind.DIED):  # another pid, or none
                with suppress(OSError):  # a full disk is no reason to stop
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

    def _check_ports(self) -> None:
        """Raises :class:`EmbeddedError` naming the port that is taken, or meant for two, and the option to change."""
        options = self.options
        gateways = options.gateway_ports()
        wanted = [(options.host, port, name, "--port") for name, port in gateways.items()]
        wanted.append(("127.0.0.1", options.nats_port, "NATS server", "--nats-port"))
        if options.postgres_port is not None:
            wanted.append(("127.0.0.1", options.postgres_port, "PostgreSQL server", "--postgres-port"))
        for name, port in options.health_ports().items():
            wanted.append(("127.0.0.1", port, f"{name} service's health page", "--health-port"))
        taken: dict[int, tuple[str, str]] = {}
        for host, port, what, option in wanted:
            if port in taken:
                other, others = taken[port]
                raise EmbeddedError(
                    f"port {port} is meant for the {other} and for the {what}: choose other ports with {others}"
                    + (f" or {option}" if option != others else "")
                )
            taken[port] = (what, option)
            check_port(host, port, what, option)

    def _record(self, started: str, pids: Mapping[str, int]) -> RunRecord:
        options = self.options
        urls = {name: f"{options.scheme}://{options.host}:{port}" for name, port in options.gateway_ports().items()}
        return RunRecord(
            pid=os.getpid(),
            started=started,
            pids=dict(pids),
            ports={"nats": options.nats_port, **options.health_ports()},
            urls=urls | {"nats": options.nats_url},
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
                raise EmbeddedError(f"bootstrap failed: {error.detail}") from None
            return 0

        specs: list[Spec] = [
            postgres.program(),
            nats.program(),
            Step("bootstrap", bootstrap, after=("postgres", "nats"), again=True),
        ]
        ports = options.health_ports()
        processes = options.processes()
        back = [replica.name for replica in processes if replica.service != "gateway"]
        for replica in processes:
            service, name = replica.service, replica.name
            dsn = postgres.dsn(role_of(service), passwords[service], DATABASE)
            settings = self._settings(service, name, dsn, _DATABASE_CONNECTIONS // len(processes))
            specs.append(
                Service(
                    name,
                    target=_target(name, service, settings, self.failpoints),
                    after=("bootstrap",) if service != "gateway" else ("bootstrap", *back),
                    ready=http_ready("127.0.0.1", ports[name]),
                )
            )
        return specs

    def _settings(self, service: str, name: str, dsn: str, pool_max: int) -> dict[str, Any]:
        """What a service's process is told; ``name`` is the process's."""
        options = self.options
        settings = service_settings(service, self.layout, nats_url=options.nats_url, postgres_dsn=dsn)
        settings["log_level"] = options.log_level
        if options.replicas.get(service, 1) > 1:
            settings["instance"] = name
        if pool_max < 8:
            settings["postgres_pool_max"] = pool_max
        if service == "registry" and options.agents_dirs:
            settings["agents_dirs"] = tuple(folder.absolute() for folder in options.agents_dirs)
        if service == "gateway":
            settings |= {"http_host": options.host, "http_port": options.gateway_ports()[name]}
            settings |= {"http_cert_file": options.http_cert_file, "http_key_file": options.http_key_file}
        settings["health_port"] = options.health_ports()[name]
        settings |= options.overrides.get(service, {})
        return settings


def _target(name: str, service: str, settings: dict[str, Any], failpoints: Failpoints | None) -> Callable[[], int]:
    def run_service() -> int:
        from countersign_chassis.run import serve

        importlib.import_module(f"countersign_{service}.app")
        try:
            return serve(lambda: build_service(service, settings, failpoints))
        except WrongSettings as error:
            raise EmbeddedError(f"{name} cannot start with these settings: {error}") from None
        except CountersignError as error:
            kind = MayPass if error.code == "unavailable" else EmbeddedError
            raise kind(f"{name} cannot start: {error.detail}") from None
        except Exception as error:
            traceback.print_exc()
            said = str(error).partition("\n")[0]
            raise MayPass(f"{name} failed: {type(error).__name__}{said and ': '}{said}") from None

    return run_service


def _preload() -> None:
    """Load what all services need once; they share that memory. Each loads its own code, and none the others'."""
    importlib.import_module("countersign_chassis.run")
