"""TLS everywhere: agents, people, services, nats-server and PostgreSQL, with an authority of the test's own."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import nats
import nats.errors
import pytest
import pytest_asyncio

from countersign_chassis.natsauth import ServerTls
from countersign_cli.bootstrap import Material, WrongSettings, apply_topology, prepare_material
from countersign_cli.bootstrap.database import DATABASE, role_of
from countersign_cli.deploy import verified
from countersign_cli.embedded.postgres import EmbeddedPostgres
from countersign_contracts.errors import CountersignError
from countersign_harness.certificates import DAY, Authority
from countersign_harness.stack import Stack
from countersign_harness.tls_front import TlsFront
from countersign_harness.world import World

pytestmark = pytest.mark.timeout(300)


class TlsStack(Stack):
    """A deployment whose servers speak TLS alone."""

    def __init__(self, folder: Path, postgres: EmbeddedPostgres) -> None:
        super().__init__(folder / "data", postgres)
        self.authority = Authority(folder / "authority")
        self.nats_tls, self.http_tls, self.postgres_tls = folder / "nats", folder / "http", folder / "postgres"
        self.front = TlsFront()
        for place in (self.nats_tls, self.http_tls, self.postgres_tls):
            self.authority.issue(place)

    async def start(self) -> None:
        await super().start()
        await self.front.start(self.superuser_dsn(), self.authority.issue(self.postgres_tls))

    async def stop(self) -> None:
        await super().stop()
        await self.front.stop()

    async def prepare(self) -> Material:
        tls = ServerTls(self.nats_tls / "tls.crt", self.nats_tls / "tls.key", self.authority.file)
        folder = self.layout.nats
        return await asyncio.to_thread(
            lambda: prepare_material(
                self.layout, nats_host="127.0.0.1", nats_port=-1, ports_file_dir=folder, nats_tls=tls
            )
        )

    async def apply_topology(self) -> None:
        await apply_topology(self.nats_url, self.layout, tls=self.authority.trusted())

    def settings(self, service: str) -> dict[str, Any]:
        where = f"{role_of(service)}:{self._passwords[service]}@127.0.0.1:{self.front.port}/{DATABASE}"
        dsn = f"postgresql://{where}{verified(self.authority.file, '?')}"
        found = super().settings(service) | {"postgres_dsn": dsn, "nats_ca_file": self.authority.file}
        if service == "gateway":
            pair = {"http_cert_file": self.http_tls / "tls.crt", "http_key_file": self.http_tls / "tls.key"}
            found |= pair | {"http_cert_check_s": 0.05}
        return found

    def renew_nats(self, **lifetime: Any) -> None:
        """Another certificate in place, and what `nats-server --signal reload` does."""
        self.authority.issue(self.nats_tls, **lifetime)
        pid = next(int(file.stem.rpartition("_")[2]) for file in self.layout.nats.glob("*.ports"))
        os.kill(pid, signal.SIGHUP)


@pytest_asyncio.fixture
async def stack(tmp_path: Path, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TlsStack]:
    async with TlsStack(tmp_path, postgres) as stack:
        monkeypatch.setenv("SSL_CERT_FILE", str(stack.authority.file))  # what agents and the command trust
        await stack.start()
        yield stack


@pytest_asyncio.fixture
async def world(stack: TlsStack) -> AsyncIterator[World]:
    async with World(stack) as world:
        await world.http.close()
        connector = aiohttp.TCPConnector(ssl=stack.authority.trusted(), force_close=True)
        world.http, world.scheme = aiohttp.ClientSession(connector=connector), "https"
        await world.start()
        yield world


async def _until(true: Callable[[], Any], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


async def test_an_action_goes_all_the_way_over_tls_and_nothing_answers_in_clear(world: World, stack: TlsStack) -> None:
    assert stack.nats_url.startswith("tls://")
    assert (await world.submit("read_thing", {"thing_id": 1}))["state"] == "succeeded"
    async with world.agent("worker-1") as agent:
        assert (await agent.call("read_thing", {"thing_id": 2}, env="dev")).state == "succeeded"
    async with aiohttp.ClientSession() as plain:
        with pytest.raises(aiohttp.ClientError):
            await plain.get(world.url.replace("https", "http") + "/health/live")
    with pytest.raises((asyncpg.PostgresError, OSError)):
        await asyncpg.connect(stack.settings("audit")["postgres_dsn"].partition("?")[0] + "?sslmode=disable")
    assert stack.front.refused == 1
    metrics = world.services["gateway"].metrics.render().decode()
    left = {
        line.split(" ")[0]: float(line.split(" ")[1])
        for line in metrics.splitlines()
        if "certificate_left" in line and line[0] != "#"
    }
    assert {name.split('"')[1] for name in left} == {"http", "nats"}
    assert all(29 * 86_400 < seconds < 31 * 86_400 for seconds in left.values())


async def test_who_is_not_of_the_authority_is_not_spoken_to(world: World, stack: TlsStack, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    for changed, why in (
        ({"nats_ca_file": other.file}, "nats-server"),
        (
            {
                "postgres_dsn": stack.settings("policy")["postgres_dsn"].replace(
                    str(stack.authority.file), str(other.file)
                )
            },
            "PostgreSQL",
        ),
    ):
        service = stack.build("policy", **changed)
        starting = asyncio.create_task(service.start())
        await _until(lambda: "CERTIFICATE_VERIFY_FAILED" in " ".join(service.unready()))  # noqa: B023
        assert service.unready()[0].startswith(f"waiting for {why}: ")
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await service.stop()


async def test_a_renewed_certificate_of_the_gateway_is_shown_without_a_restart(world: World, stack: TlsStack) -> None:
    def shown() -> str:
        port = world.services["gateway"].http.port
        return ssl.get_server_certificate(("127.0.0.1", port), ca_certs=str(stack.authority.file))

    before = await asyncio.to_thread(shown)
    stack.authority.issue(stack.http_tls)
    async with asyncio.timeout(20):
        while await asyncio.to_thread(shown) == before:
            await asyncio.sleep(0.02)
    assert (await world.submit("read_thing", {"thing_id": 1}))["state"] == "succeeded"


async def test_an_expired_certificate_of_the_gateway_is_refused_at_start(stack: TlsStack) -> None:
    stack.authority.issue(stack.http_tls, starts=-2 * DAY, ends=-DAY)
    with pytest.raises(CountersignError, match=r"http/tls.crt expired at .*: put a renewed one in its place"):
        stack.build("gateway")
    with pytest.raises(WrongSettings, match="http_cert_file and http_key_file belong together"):
        stack.build("gateway", http_key_file=None)


async def test_nats_server_s_certificate_expires_and_is_renewed_without_a_restart(stack: TlsStack) -> None:
    registry = await stack.service("registry")
    await stack.service("executor")
    policy = await stack.service("policy")
    assert policy.unready() == []
    stack.renew_nats(starts=-2 * DAY, ends=timedelta(seconds=-1))
    late = stack.build("approvals")
    starting = asyncio.create_task(late.start())
    try:
        await _until(lambda: "certificate has expired" in " ".join(late.unready()))
        assert late.unready()[0].startswith("waiting for nats-server: nats-server at tls://")
        assert policy.unready() == [], "what is connected stays so"
        stack.renew_nats()
        async with asyncio.timeout(60):
            await starting
        assert late.unready() == []
        assert registry.unready() == []
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await late.stop()
    with pytest.raises((nats.errors.Error, OSError, ssl.SSLError)):
        await nats.connect(
            stack.nats_url.replace("tls://", "nats://"),
            allow_reconnect=False,
            connect_timeout=3,
            tls=Authority(stack.layout.root / "other").trusted(),
        )
