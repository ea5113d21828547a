"""Fixtures: servers alone (``postgres``, ``bare_nats``), a deployment (``stack``), the whole product (``world``)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from countersign_cli.embedded.nats import EmbeddedNats
from countersign_cli.embedded.postgres import EmbeddedPostgres

from .prepared import SUPERUSER_PASSWORD, Prepared, hash_passwords_fast
from .stack import Stack
from .world import World

#: Where few tests take long: they begin first, so that no worker is left with one while the others have ended.
LONGEST = (
    "tests/faults",
    "tests/e2e",
    "tests/docs",
    "tests/observability",
    "cli/tests/embedded",
    "cli/tests/test_watch.py",
)


def pytest_configure() -> None:
    """In the background, or by nohup, Ctrl-C or a hang-up is ignored: what the tests start would ignore it too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)  # still ignored here; a program that is started has its own way


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the long ones first; within a file nothing changes."""

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(config.rootpath).as_posix()
        return next((place for place, long in enumerate(LONGEST) if folder.startswith(long)), len(LONGEST))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One real PostgreSQL for the whole session; each stack gets its own database on it."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), None, SUPERUSER_PASSWORD)
    server.start()
    asyncio.run(hash_passwords_fast(server))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """What each stack gets a copy of."""
    return Prepared(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def bare_nats(tmp_path: Path) -> Iterator[EmbeddedNats]:
    """A nats-server with no accounts and no streams, on a port that it keeps over a restart."""
    config = tmp_path / "nats.conf"
    config.write_text("host: 127.0.0.1\nport: -1\n")
    server = EmbeddedNats(config, tmp_path / "run")
    server.start()
    config.write_text(config.read_text().replace("-1", str(server.url()).rsplit(":", 1)[1]))
    yield server
    server.stop()


@pytest_asyncio.fixture
async def stack(
    tmp_path: Path, postgres: EmbeddedPostgres, prepared: Prepared, request: pytest.FixtureRequest
) -> AsyncIterator[Stack]:
    """A whole deployment without its services; the schemas are empty, but for those of ``world``."""
    async with Stack(tmp_path / "data", postgres, prepared, migrated="world" in request.fixturenames) as stack:
        await stack.start()
        yield stack


@pytest_asyncio.fixture
async def world(stack: Stack) -> AsyncIterator[World]:
    """The whole product, running."""
    async with World(stack) as world:
        await world.start()
        yield world
