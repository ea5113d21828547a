"""A whole system as people run it, in a folder: its processes, its API, its bus and its database."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from countersign_chassis.natsauth import KeyPair, Permissions, creds_file, user_jwt
from countersign_cli.bootstrap import Layout
from countersign_cli.bootstrap.database import DATABASE
from countersign_cli.embedded.datadir import DataDir
from countersign_cli.embedded.leftover import process_exists
from countersign_cli.embedded.postgres import EmbeddedPostgres
from countersign_contracts.event import CORE_SERVICES
from countersign_harness.ports import free_run
from countersign_harness.standstill import stand_still

START_S = 180.0


class NotAnswered(Exception):
    """The gateway could not be reached, or answered with a status of 500 or more."""


class System:
    """``async with`` it: started, and stopped with all it runs. Its log lies beside its folder."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None, *, replicas: str = "") -> None:
        self.folder = folder
        self.layout = Layout(folder)
        self.failpoints = folder.parent / "failpoints"
        self._settings = {f"COUNTERSIGN_{name.upper()}": value for name, value in (settings or {}).items()}
        self._replicas = replicas
        self._data = DataDir(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._command: list[str] = []
        self._http: aiohttp.ClientSession | None = None
        self._admin = ""
        self.url = ""
        self.nats_url = ""

    async def __aenter__(self) -> System:
        first = free_run(2 + 2 * len(CORE_SERVICES))  # gateway, nats-server, and the health of two of each at most
        ports = (first, first + 1, first + 2)
        self.url, self.nats_url = f"http://127.0.0.1:{ports[0]}", f"nats://127.0.0.1:{ports[1]}"
        self.failpoints.mkdir(parents=True)
        self._command = [sys.executable, "-m", "countersign_faults.up", "--data-dir", str(self.folder)]
        self._command += ["--port", str(ports[0]), "--nats-port", str(ports[1]), "--health-port", str(ports[2])]
        self._command += ["--failpoints", str(self.failpoints), "--replicas", self._replicas]
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._launch()
        try:
            await self.until_ready(START_S)
        except BaseException:
            await self.__aexit__()
            raise
        self._admin = self.layout.admin_token.read_text().strip()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                await asyncio.to_thread(self._process.wait, 40)
            except subprocess.TimeoutExpired:
                self._process.kill()
                await asyncio.to_thread(self._process.wait)

    async def crash(self) -> None:
        """End everything at once, as a loss of power does, and start it again on what is on the disk."""
        assert self._process is not None
        stand_still(self._process.pid)  # it must not start again what dies first
        for pid in self.pids().values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        self._data.run.unlink(missing_ok=True)
        self._launch()

    def _launch(self) -> None:
        given = {"PYTHONPATH": str(Path(__file__).parents[1])} | self._settings
        with (self.folder.parent / "up.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=os.environ | given)

    # --- processes ------------------------------------------------------------------------------------

    def pids(self) -> dict[str, int]:
        """The processes of the services, of `nats` and of `postgres`, as the supervisor last said."""
        found: dict[str, int] = json.loads(self._data.run.read_text())["pids"]
        return found

    async def pid(self, name: str) -> int:
        """One of them that runs: waited for, if it has just died (10 s at most)."""
        async with asyncio.timeout(10):
            while True:
                pid = self.pids().get(name) if self._data.run.exists() else None
                if pid is not None and process_exists(pid):
                    return pid
                await asyncio.sleep(0.01)

    def ended(self) -> list[str]:
        """What ended of the processes that must not."""
        return [] if self._process is not None and self._process.poll() is None else ["`countersign up`"]

    def health_urls(self) -> dict[str, str]:
        """Where each service says whether it is ready; none before they were started."""
        if not self._data.run.exists():
            return {}
        ports: dict[str, int] = json.loads(self._data.run.read_text())["ports"]
        return {name: f"http://127.0.0.1:{port}/health/ready" for name, port in ports.items() if name != "nats"}

    async def until_ready(self, seconds: float) -> float:
        """Wait until every service is ready; the seconds it took. Raises :class:`TimeoutError`, saying who is not."""
        began = time.monotonic()
        reasons: dict[str, str] = {}
        while time.monotonic() - began < seconds:
            gone = self.ended()
            assert not gone, f"{', '.join(gone)} ended"
            if urls := self.health_urls():
                answers = await asyncio.gather(*(self._ready(url) for url in urls.values()))
                reasons = {name: why for name, why in zip(urls, answers, strict=True) if why}
                if not reasons:
                    return time.monotonic() - began
            await asyncio.sleep(0.02)
        raise TimeoutError(f"not ready after {seconds:.0f} s: {reasons}")

    async def _ready(self, url: str) -> str:
        assert self._http is not None
        try:
            async with self._http.get(url, timeout=aiohttp.ClientTimeout(total=2)) as response:
                return "" if response.status == 200 else (await response.text())[:300]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return str(error) or type(error).__name__

    # --- API ------------------------------------------------------------------------------------------

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str = "", wait_s: float = 0, timeout_s: float = 30
    ) -> tuple[int, Any]:
        """Status and body of one request, as the administrator or with ``token``. Raises :class:`NotAnswered`."""
        assert self._http is not None
        headers = {"Authorization": f"Bearer {token or self._admin}"}
        if wait_s:
            headers["Prefer"] = f"wait={wait_s}"
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._http.request(
                method, self.url + path, json=body, headers=headers, timeout=timeout
            ) as response:
                answer = json.loads(await response.read() or b"null")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise NotAnswered(str(error) or type(error).__name__) from None
        if response.status >= 500:
            raise NotAnswered(f"{response.status}: {answer}")
        return response.status, answer

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        """The body of a request that is tried until it is answered (two minutes at most), and must succeed."""
        deadline = time.monotonic() + 120
        while True:
            try:
                status, answer = await self.ask(method, path, body)
            except NotAnswered:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)
                continue
            assert status < 400, (method, path, status, answer)
            return answer

    async def export(self) -> list[bytes]:
        """The whole ledger's lines, under a fresh checkpoint."""
        page = await self.ok("GET", "/api/v1/audit/export?first_seq=1")
        lines, last = list(page["lines"]), page["last_seq"]
        while page.get("next") is not None:
            page = await self.ok("GET", f"/api/v1/audit/export?first_seq=1&next={page['next']}&last_seq={last}")
            lines += page["lines"]
        return [line.encode() for line in lines]

    # --- bus ------------------------------------------------------------------------------------------

    def system_creds(self) -> Path:
        """A user of account SYS who may list and close connections, as an operator has one."""
        signer = KeyPair.from_seed(self.layout.seed("system-signing").read_text().strip())
        account = KeyPair.from_seed(self.layout.seed("system").read_text().strip())
        user = KeyPair.generate("user")
        may = Permissions(publish=("$SYS.REQ.SERVER.>",), subscribe=("_INBOX.>",))
        jwt = user_jwt("faults", user.public, signer, account.public, may, issued_at=int(time.time()))
        file = self.folder.parent / "faults-system.creds"
        file.write_text(creds_file(jwt, user.seed))
        return file

    # --- database -------------------------------------------------------------------------------------

    async def as_superuser(self, sql: str) -> None:
        """Run SQL on the product's database as PostgreSQL's superuser."""
        password = json.loads(self.layout.postgres_passwords.read_text())["postgres"]
        dsn = EmbeddedPostgres(self._data.postgres, None, password).dsn("postgres", password, DATABASE)
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            await connection.execute(sql)
        finally:
            await connection.close(timeout=5)
