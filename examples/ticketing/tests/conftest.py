"""A really running API for every test: in this process for speed, as its own where that matters."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn

from ticketing.app import build


@dataclass(frozen=True)
class Api:
    """A client of one running API."""

    url: str
    http: aiohttp.ClientSession

    async def call(self, method: str, path: str, *, key: str | None = None, **request: Any) -> tuple[int, Any]:
        """The status and the JSON of the answer."""
        headers = {"Idempotency-Key": key} if key is not None else {}
        async with self.http.request(method, self.url + path, headers=headers, **request) as response:
            return response.status, await response.json(content_type=None)

    async def journal(self) -> list[dict[str, Any]]:
        """What really happened."""
        status, entries = await self.call("GET", "/journal")
        assert status == 200
        return list(entries)


@asynccontextmanager
async def serving(database: Path, **options: Any) -> AsyncIterator[Api]:
    """Serve `database` on a free port, in this event loop."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(build(database, **options), log_config=None, lifespan="on"))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:
                yield Api(url, http)
        finally:
            server.should_exit = True
            await running


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "ticketing.db"


@pytest.fixture
def serve() -> Callable[..., AbstractAsyncContextManager[Api]]:
    """`serving`, for the tests that start the API themselves."""
    return serving


@pytest.fixture
async def api(database: Path) -> AsyncIterator[Api]:
    async with serving(database) as running:
        yield running


@dataclass(frozen=True)
class Spawned:
    """`python -m ticketing serve` as a process of its own."""

    process: asyncio.subprocess.Process
    api: Api

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


async def start_command(*arguments: str) -> asyncio.subprocess.Process:
    """Start `python -m ticketing` with both outputs readable."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "ticketing", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.fixture
def command() -> Callable[..., Awaitable[tuple[int | None, str, str]]]:
    """Run `python -m ticketing` to its end: the exit code and both outputs."""

    async def run(*arguments: str) -> tuple[int | None, str, str]:
        process = await start_command(*arguments)
        try:
            async with asyncio.timeout(20):
                output, errors = await process.communicate()
        finally:
            await stop(process)
        return process.returncode, output.decode(), errors.decode()

    return run


@pytest.fixture
async def spawn(database: Path) -> AsyncIterator[Callable[..., Awaitable[Spawned]]]:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())

        async def start(*arguments: str) -> Spawned:
            process = await start_command("serve", "--port", "0", "--database", str(database), *arguments)
            stack.push_async_callback(stop, process)
            assert process.stdout is not None
            async with asyncio.timeout(20):
                line = (await process.stdout.readline()).decode()
            assert line.startswith("ticketing: http://"), line
            return Spawned(process, Api(line.split()[1].rstrip(","), http))

        yield start


async def stop(process: asyncio.subprocess.Process) -> None:
    """End a process that may have ended, and read what it still had to say."""
    if process.returncode is None:
        process.kill()
        await process.communicate()


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port nobody listens on, and nobody else is given."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@pytest.fixture
async def dropping_port() -> AsyncIterator[int]:
    """A server that reads a request and hangs up."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        yield int(server.sockets[0].getsockname()[1])
