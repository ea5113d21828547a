"""NATS or PostgreSQL away, at the start and later: a service waits, says so, and recovers by itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from countersign_chassis import Service
from countersign_cli.bootstrap import Layout, build_service, prepare_material
from countersign_cli.deploy import hand_out
from countersign_cli.embedded.postgres import EmbeddedPostgres
from countersign_harness.ports import free_run
from countersign_harness.stack import SUPERUSER_PASSWORD, Stack

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """One that these tests may stop."""
    server = EmbeddedPostgres(tmp_path / "postgres", free_run(1), SUPERUSER_PASSWORD)
    server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def stack(tmp_path: Path, postgres: EmbeddedPostgres) -> AsyncIterator[Stack]:
    """With a nats-server that keeps its port over a restart."""
    stack = Stack(tmp_path / "data", postgres)
    try:
        await stack.start()
        config = stack.layout.nats_config
        config.write_text(config.read_text().replace("port: -1", f"port: {stack.nats_url.rsplit(':', 1)[1]}"))
        yield stack
    finally:
        await asyncio.to_thread(postgres.start)
        await asyncio.to_thread(stack.nats.start)
        await stack.stop()


async def until(true: Callable[[], Any], service: Service) -> None:
    """Wait until so; else say why the service is not ready."""
    try:
        async with asyncio.timeout(60):
            while not true():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"unready: {service.unready()}") from None


async def test_postgresql_away_at_the_start_and_later(stack: Stack, postgres: EmbeddedPostgres) -> None:
    await asyncio.to_thread(postgres.stop)
    service = stack.build("registry")
    starting = asyncio.create_task(service.start())
    try:
        await until(lambda: any(why.startswith("waiting for PostgreSQL: ") for why in service.unready()), service)
        await asyncio.to_thread(postgres.start)
        async with asyncio.timeout(60):
            await starting
        await until(lambda: not service.unready(), service)
        await asyncio.to_thread(postgres.stop)
        await until(lambda: any(why.startswith("PostgreSQL is away: ") for why in service.unready()), service)
        await asyncio.to_thread(postgres.start)
        await until(lambda: not service.unready(), service)
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await service.stop()


async def test_nats_away_at_the_start_and_later(stack: Stack) -> None:
    settings = stack.settings("registry")
    await asyncio.to_thread(stack.nats.stop)
    service = build_service("registry", settings | {"log_level": "warning"})
    starting = asyncio.create_task(service.start())
    try:
        await until(
            lambda: any(why.startswith("waiting for nats-server: nats-server at nats://") for why in service.unready()),
            service,
        )
        await asyncio.to_thread(stack.nats.start)
        async with asyncio.timeout(60):
            await starting
        await until(lambda: not service.unready(), service)
        await asyncio.to_thread(stack.nats.stop)
        await until(lambda: any("nats-server does not answer registry" in why for why in service.unready()), service)
        await asyncio.to_thread(stack.nats.start)
        await until(lambda: not service.unready(), service)
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await service.stop()


@pytest.fixture
def served(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts `countersign serve policy`, with servers that are not there."""
    hand_out(prepare_material(Layout(tmp_path / "keys"), nats_host="127.0.0.1", nats_port=4222), tmp_path / "services")

    def start(health_port: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "countersign_cli", "serve", "policy"]
        command += [f"--folder={tmp_path}/services/policy", "--nats-url=nats://127.0.0.1:1", "--postgres=127.0.0.1:1"]
        given = os.environ | {"COUNTERSIGN_HEALTH_PORT": str(health_port)}
        return subprocess.Popen(command, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def test_a_port_that_is_taken_is_one_line(served: Callable[[int], subprocess.Popen[str]]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        _, said = served(port).communicate(timeout=90)
    assert said == f"error: policy cannot start: cannot listen on 127.0.0.1:{port}: Address already in use\n"


async def test_a_service_that_waits_says_so_and_stops_when_asked(
    served: Callable[[int], subprocess.Popen[str]],
) -> None:
    port = free_run(1)
    process = served(port)
    try:
        async with asyncio.timeout(90):
            while not (reasons := await asyncio.to_thread(_reasons, port)):
                await asyncio.sleep(0.05)
        assert len(reasons) == 1 and reasons[0].startswith("waiting for PostgreSQL")
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == 0
    assert all(json.loads(line)["level"] in ("info", "warning") for line in said.splitlines()), said


def _reasons(port: int) -> list[str]:
    with suppress(OSError):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2)
        except urllib.error.HTTPError as error:
            found: list[str] = json.loads(error.read())["reasons"]
            return found
    return []
