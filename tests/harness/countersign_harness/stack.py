"""A whole deployment without its services: nats-server in operator mode, PostgreSQL, keys, topology, roles."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import asyncpg
from nats.aio.client import Client

from countersign_chassis import Bus, Failpoints, Service
from countersign_cli.bootstrap import (
    Layout,
    Material,
    apply_topology,
    build_service,
    prepare_database,
    prepare_material,
    service_settings,
)
from countersign_cli.bootstrap.database import DATABASE, role_of
from countersign_cli.embedded.nats import EmbeddedNats
from countersign_cli.embedded.postgres import EmbeddedPostgres
from countersign_contracts import subjects
from countersign_ledger import SigningKey, TrustBundle

from .plain_client import PlainClient
from .prepared import SUPERUSER_PASSWORD as SUPERUSER_PASSWORD
from .prepared import Prepared


class Stack:
    """What a test stands on: ``async with`` it, and :meth:`start` it. ``folder`` is its data folder.

    With ``prepared`` its keys and streams are a copy; with ``migrated`` besides, every service's schema is made.
    """

    def __init__(
        self, folder: Path, postgres: EmbeddedPostgres, prepared: Prepared | None = None, *, migrated: bool = False
    ) -> None:
        self.layout = Layout(folder)
        self.postgres = postgres
        self.nats = EmbeddedNats(self.layout.nats_config, self.layout.nats)
        self._prepared = prepared
        self._migrated = migrated
        self._exit = AsyncExitStack()
        self._services: list[Service] = []
        self._passwords: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Everything up, nothing running on it."""
        if self._prepared is not None:
            self._passwords = self._prepared.copy_to(self.layout)
            await asyncio.to_thread(self.nats.start)
            await self._prepared.make_database(self.postgres, migrated=self._migrated)
            return
        self._passwords = (await self.prepare()).postgres_passwords
        await asyncio.to_thread(self.nats.start)
        superuser = self.postgres.dsn("postgres", SUPERUSER_PASSWORD, "postgres")
        admin = await asyncpg.connect(superuser)
        await admin.execute(f'DROP DATABASE IF EXISTS "{DATABASE}" WITH (FORCE)')
        await admin.close()
        await prepare_database(superuser, self.superuser_dsn(), self._passwords)
        await self.apply_topology()

    async def prepare(self) -> Material:
        """Make the keys and settings that are missing, as the bootstrap step does at each start."""
        return await asyncio.to_thread(
            prepare_material, self.layout, nats_host="127.0.0.1", nats_port=-1, ports_file_dir=self.layout.nats
        )

    async def apply_topology(self) -> None:
        """Make the streams and consumers, as the bootstrap step does; again after JetStream was wiped."""
        await apply_topology(self.nats_url, self.layout)

    async def stop(self) -> None:
        """Services, all at once, and connections first; then the server, which nobody waits for to say goodbye."""
        await asyncio.gather(*(service.stop() for service in self._services))
        await self._exit.aclose()
        await asyncio.to_thread(self.nats.kill)

    @property
    def nats_url(self) -> str:
        """Where clients connect."""
        url = self.nats.url()
        assert url is not None
        return url

    def superuser_dsn(self) -> str:
        """The product's database as superuser, for looking and for tampering."""
        return self.postgres.dsn("postgres", SUPERUSER_PASSWORD, DATABASE)

    def settings(self, service: str) -> dict[str, Any]:
        """Keyword arguments for the service's ``Settings``."""
        dsn = self.postgres.dsn(role_of(service), self._passwords[service], DATABASE)
        return service_settings(service, self.layout, nats_url=self.nats_url, postgres_dsn=dsn)

    def key(self, service: str) -> SigningKey:
        """A service's signing key."""
        return SigningKey.from_json(self.layout.signing_key(service).read_text())

    def trust(self) -> TrustBundle:
        """The trust bundle."""
        return TrustBundle.from_json(self.layout.trust.read_text())

    async def bus(self, service: str) -> Bus:
        """A bus connected as that service in account CORE."""
        bus = Bus(self.nats_url, self.layout.creds(f"{service}-core"), self.key(service), self.trust(), _Log(), service)
        await bus.connection.open()
        self._exit.push_async_callback(bus.connection.close)
        return bus

    async def client(self, user: str, creds: Path | None = None) -> Client:
        """A plain NATS client, e.g. ``client("gateway-agents")`` or with an agent's own credentials file."""
        name = user.split("-")[0] if creds is None else user
        client = await PlainClient.connected(
            self.nats_url,
            user_credentials=str(creds or self.layout.creds(user)),
            inbox_prefix=subjects.inbox(name),
            allow_reconnect=False,
            error_cb=_quiet,
        )
        self._exit.push_async_callback(client.close)
        return client

    async def service(self, name: str, failpoints: Failpoints | None = None, **overrides: Any) -> Service:
        """Build and start a service in this process; stopped with the stack."""
        service = self.build(name, failpoints, **overrides)
        self._services.append(service)
        async with asyncio.timeout(20):
            await service.start()
        return service

    def build(self, name: str, failpoints: Failpoints | None = None, **overrides: Any) -> Service:
        """Build a service without starting it."""
        defaults: dict[str, Any] = {"log_level": "warning"} | ({"http_port": 0} if name == "gateway" else {})
        return build_service(name, self.settings(name) | defaults | overrides, failpoints)


async def _quiet(error: Exception) -> None:
    logging.getLogger("countersign.tests").debug("nats: %s", error)


class _Log:
    """Takes log calls and keeps quiet."""

    def __getattr__(self, _: str) -> Callable[..., Any]:
        return lambda *_args, **_kwargs: self
