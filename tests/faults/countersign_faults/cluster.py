"""The system over several machines' worth of processes: three nats-servers, PostgreSQL, and each service by
`countersign serve`, as `countersign bootstrap` prepares them. All on loopback.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import nats
import nats.errors
from nats.aio.client import Client

from countersign_cli.bootstrap import Layout
from countersign_cli.embedded.leftover import process_exists
from countersign_cli.embedded.nats import EmbeddedNats
from countersign_cli.embedded.postgres import EmbeddedPostgres
from countersign_contracts import subjects, topology
from countersign_contracts.event import CORE_SERVICES
from countersign_contracts.projection import BUCKETS
from countersign_harness.ports import free_run

from .system import START_S, System

NODES = ("a", "b", "c")
STREAMS = {
    "CORE": (
        *(stream.name for stream in topology.STREAMS if stream.account == "CORE"),
        *(f"KV_{bucket.name}" for bucket in BUCKETS),
    ),
    "AGENTS": tuple(stream.name for stream in topology.STREAMS if stream.account == "AGENTS"),
}


class _Handed(Layout):
    """The folder of the keys; what services write themselves is in their own."""

    @property
    def checkpoints(self) -> Path:
        return self.root.parent / "services" / "audit" / "checkpoints.jsonl"


@dataclass(frozen=True)
class Copy:
    """One stream as one node holds it."""

    stream: str
    node: str
    current: bool
    leads: bool


class Cluster(System):
    """``async with`` it, as a :class:`System`. What dies of the nats-servers stays dead until it is started again."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(folder / "keys", settings)
        self.layout = _Handed(folder / "keys")
        self._home = folder
        self._nodes: dict[str, EmbeddedNats] = {}
        self._postgres: EmbeddedPostgres | None = None
        self._services: dict[str, subprocess.Popen[bytes]] = {}
        self._ports: dict[str, int] = {}

    async def __aenter__(self) -> Cluster:
        self._home.mkdir(parents=True)
        first = free_run(2 * len(NODES) + 1 + len(CORE_SERVICES))
        clients = dict(zip(NODES, range(first, first + 3), strict=True))
        routes = dict(zip(NODES, range(first + 3, first + 6), strict=True))
        self._ports = dict(zip(CORE_SERVICES, range(first + 7, first + 7 + len(CORE_SERVICES)), strict=True))
        self.url = f"http://127.0.0.1:{self._ports['gateway']}"
        self.nats_url = ",".join(f"nats://127.0.0.1:{port}" for port in clients.values())
        nodes = [f"--nats-node={name}=127.0.0.1:{clients[name]}:{routes[name]}" for name in NODES]
        services = self._home / "services"
        await self._command_line(
            "bootstrap", "keys", f"--folder={self.folder}", f"--services={services}", "--nats-host=127.0.0.1", *nodes
        )
        try:
            await self._servers(first + 6)
            self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
            for service in CORE_SERVICES:
                self._serve(service, services / service, first + 6)
            await self.until_ready(START_S)
        except BaseException:
            await self.__aexit__()
            raise
        self._admin = self.layout.admin_token.read_text().strip()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()
        for process in self._services.values():
            process.terminate()
        for process in self._services.values():
            await asyncio.to_thread(process.wait, 40)
        for node in self._nodes.values():
            await asyncio.to_thread(node.stop)
        if self._postgres is not None:
            await asyncio.to_thread(self._postgres.stop)

    # --- nodes ----------------------------------------------------------------------------------------

    async def kill_node(self, name: str) -> None:
        """SIGKILL to one nats-server."""
        pid = next(int(file.stem.rpartition("_")[2]) for file in self.layout.node(name).glob("*.ports"))
        os.kill(pid, signal.SIGKILL)
        while process_exists(pid) and self._nodes[name].ready():
            await asyncio.sleep(0.01)

    async def start_node(self, name: str) -> None:
        """Start it again, on what is on its disk."""
        await asyncio.to_thread(self._nodes[name].stop)
        await asyncio.to_thread(self._nodes[name].start)

    async def copies(self) -> list[Copy]:
        """Every copy of every stream, as its leader sees it. Raises what NATS raises while there is no leader."""
        found = []
        for account, streams in STREAMS.items():
            client = await nats.connect(
                self.nats_url.split(","),
                user_credentials=str(self.layout.creds(f"bootstrap-{account.lower()}")),
                inbox_prefix=subjects.inbox("bootstrap"),
                error_cb=_quiet,
                connect_timeout=2,
            )
            try:
                for stream in streams:
                    reply = await client.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout=2)
                    info = json.loads(reply.data)
                    if error := info.get("error"):
                        raise nats.errors.Error(f"{stream}: {error}")
                    found.append(Copy(stream, info["cluster"]["leader"], current=True, leads=True))
                    for replica in info["cluster"].get("replicas", []):
                        current = replica["current"] and not replica.get("offline", False)
                        found.append(Copy(stream, replica["name"], current, leads=False))
            finally:
                await client.close()
        return found

    async def until_copied(self, seconds: float) -> float:
        """Wait until every node holds every stream, up to date; the seconds it took."""
        began = time.monotonic()
        behind: Any = "nobody was asked"
        while time.monotonic() - began < seconds:
            try:
                copies = await self.copies()
            except (nats.errors.Error, TimeoutError, OSError) as error:
                behind = error
            else:
                behind = [f"{copy.stream} on {copy.node}" for copy in copies if not copy.current]
                if not behind:
                    return time.monotonic() - began
            await asyncio.sleep(0.1)
        raise TimeoutError(f"not copied after {seconds:.0f} s: {behind}")

    async def lets_in(self, node: str, agent: str, creds: Path) -> bool:
        """Whether this one node takes that agent's connection."""
        client = Client()
        try:
            await client.connect(
                self._nodes[node].url() or "",
                user_credentials=str(creds),
                inbox_prefix=subjects.inbox(agent),
                allow_reconnect=False,
                error_cb=_quiet,
            )
        except nats.errors.Error:
            return False
        finally:
            await client.close()
        return True

    # --- processes ------------------------------------------------------------------------------------

    def health_urls(self) -> dict[str, str]:
        return {name: f"http://127.0.0.1:{port}/health/ready" for name, port in self._ports.items()}

    def ended(self) -> list[str]:
        return [name for name, process in self._services.items() if process.poll() is not None]

    async def _servers(self, postgres_port: int) -> None:
        password = json.loads(self.layout.postgres_passwords.read_text())["postgres"]
        self._postgres = EmbeddedPostgres(self._home / "postgres", postgres_port, password)
        for name in NODES:
            self._nodes[name] = EmbeddedNats(self.layout.node(name) / "server.conf", self.layout.node(name))
        starts = [*(node.start for node in self._nodes.values()), self._postgres.start]
        await asyncio.gather(*(asyncio.to_thread(start) for start in starts))
        await self._command_line(
            *("bootstrap", "servers", f"--folder={self.folder}", f"--nats-url={self.nats_url}"),
            *(f"--postgres=127.0.0.1:{postgres_port}", "--replicas=3"),
        )

    def _serve(self, service: str, folder: Path, postgres_port: int) -> None:
        command = [sys.executable, "-m", "countersign_cli", "serve", service, f"--folder={folder}"]
        command += [f"--nats-url={self.nats_url}", f"--postgres=127.0.0.1:{postgres_port}"]
        where = "COUNTERSIGN_HTTP_PORT" if service == "gateway" else "COUNTERSIGN_HEALTH_PORT"
        given = os.environ | self._settings | {where: str(self._ports[service])}
        with (self._home / f"{service}.log").open("ab") as log:
            self._services[service] = subprocess.Popen(command, stdout=log, stderr=log, env=given)

    async def _command_line(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "countersign_cli", *arguments]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


async def _quiet(_: Exception) -> None:
    """A node that is away is what this is about."""
