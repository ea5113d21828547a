"""A running system with something to see on every graph: the demonstration's acts, then what goes wrong.

Each service is a process of its own (`countersign up`), scraped by a real Prometheus from before the first action on.
"""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from countersign_cli.bootstrap import Layout
from countersign_cli.client import Client
from countersign_cli.commands.demo import example_files
from countersign_cli.demo.run import play
from countersign_cli.embedded.datadir import write_secret
from countersign_contracts.errors import CountersignError
from countersign_sdk import Agent

from .downstream import Downstream
from .local_system import Up
from .plain_client import PlainClient
from .ports import free_run
from .prometheus import Prometheus
from .world import AGENTS, PROFILES, TOOLS

WEBHOOK = """
kind: webhook
name: ops
url: URL/told
allow_private: true
events: [requested, resolved]
secret: ops
"""
#: Long enough for gauges that are counted every ten seconds to be counted and scraped.
SETTLES_S = 12.0


class Observed:
    """The system, the Prometheus that scrapes it, and when it all began (Unix time)."""

    def __init__(self, up: Up, prometheus: Prometheus, layout: Layout) -> None:
        self.up = up
        self.prometheus = prometheus
        self.layout = layout
        self.began = time.time()
        self.admin = Client(up.url, layout.admin_token.read_text().strip())

    async def act(self) -> None:
        """Everything there is to see."""
        await self._demonstration()
        downstream = Downstream()
        await downstream.start()
        try:
            await self._work(downstream)
        finally:
            await downstream.stop()
        await self._forge()
        await asyncio.sleep(SETTLES_S)

    async def _demonstration(self) -> None:
        governed, ungoverned = (free_run(1) for _ in range(2))
        processes = [_ticketing(self.layout.root, port) for port in (governed, ungoverned)]
        try:
            for port in (governed, ungoverned):
                await _listens(port)
            await play(
                url=self.up.url,
                nats_url=self.up.nats_url,
                layout=self.layout,
                files=example_files(),
                ticketing_url=f"http://127.0.0.1:{governed}",
                ungoverned_url=f"http://127.0.0.1:{ungoverned}",
                checkpoints=self.layout.checkpoints,
            )
        finally:
            for process in processes:
                process.kill()
                process.wait()

    async def _work(self, downstream: Downstream) -> None:
        """Two agents at work on a business system that does not always answer well."""
        url = f"http://127.0.0.1:{downstream.port}"
        write_secret(self.layout.webhook_secrets / "ops", "whsec_" + base64.b64encode(bytes(32)).decode())
        documents = [
            {"path": f"{name}.yaml", "text": text.replace("URL", url)}
            for name, text in {"tools": TOOLS, "profiles": PROFILES, "agents": AGENTS, "ops": WEBHOOK}.items()
        ]
        await self._post("/api/v1/apply", {"documents": documents, "dry_run": False})
        voter = (await self._post("/api/v1/people", {"name": "bob@example.com", "roles": ["approver"]}))["token"]
        token = (await self._post("/api/v1/agents/worker-1/credentials", {}))["http_token"]
        async with Agent.http(self.up.url, token, metrics_interval_s=2) as agent:
            await agent.heartbeat()
            agent.count(failed=1)

            async def call(tool: str, env: str = "dev", **args: object) -> str:
                outcome = await agent.call(tool, args, env=env, session_id="observed", wait_s=20)
                return outcome.request_id

            for _ in range(12):
                with agent.event():
                    await asyncio.gather(*(call("read_thing", thing_id=n) for n in range(1, 9)))
                await asyncio.sleep(0.5)
            with suppress(CountersignError):
                await call("write_thing", thing_id=1, note="no such field")  # denied
            for status in range(7):  # beyond a guardrail
                with suppress(CountersignError):
                    await call("write_thing", thing_id=1, status=str(status))
            downstream.status = 503
            with suppress(CountersignError):
                await call("read_thing", thing_id=1)  # tried again, and failed
            downstream.status, downstream.drop_after_effect = 200, True
            with suppress(CountersignError):
                await agent.call("write_thing", {"thing_id": 2, "status": "x"}, env="dev", wait_s=20)  # unknown
            downstream.drop_after_effect = False
            held = await agent.submit("write_thing", {"thing_id": 3, "status": "x"}, env="prod", session_id="held")
            await self._vote(held.request_id, voter)
            await agent.wait(held.request_id, 20)
            await agent.submit("write_thing", {"thing_id": 4, "status": "x"}, env="prod", session_id="waits")
        with suppress(CountersignError):  # nobody's
            await asyncio.to_thread(self.admin.get, "/api/v1/actions/nothing")
        await self._post("/api/v1/stops", {"scope": "tool:send_message", "reason": "to be seen on a graph"})

    async def _vote(self, request_id: str, token: str) -> None:
        async with asyncio.timeout(20):
            while not (
                page := await asyncio.to_thread(self.admin.get, "/api/v1/approvals", {"request_id": request_id})
            )["items"]:
                await asyncio.sleep(0.05)
        approval = page["items"][0]
        path = f"/api/v1/approvals/{approval['approval_id']}/votes"
        bob = Client(self.up.url, token)
        with suppress(CountersignError):  # of another digest: refused
            await asyncio.to_thread(bob.post, path, {"vote": "approve", "digest": "sha256:" + "0" * 64})
        await asyncio.to_thread(bob.post, path, {"vote": "approve", "digest": approval["action"]["digest"]})

    async def _post(self, path: str, body: object) -> dict[str, str]:
        answer: dict[str, str] = await asyncio.to_thread(self.admin.post, path, body)
        return answer

    async def _forge(self) -> None:
        """What nobody signed, on a subject of the control plane: a dead letter, and an entry in the ledger."""
        client = await PlainClient.connected(
            self.up.nats_url,
            user_credentials=str(self.layout.creds("approvals-core")),
            inbox_prefix="_INBOX.approvals",
        )
        await client.publish("approvals.resolved.forged", b"approved, believe me")
        await client.flush()
        await client.close()


@asynccontextmanager
async def observed(folder: Path) -> AsyncIterator[Observed]:
    """The system and its Prometheus, both up, with nothing done yet."""
    up = Up(folder / "system")
    try:
        await asyncio.to_thread(up.start)
        targets = {name: port for name, port in up.ports().items() if name != "nats"}
        prometheus = Prometheus(folder / "prometheus", targets)
        await asyncio.to_thread(prometheus.__enter__)
        try:
            yield Observed(up, prometheus, Layout(folder / "system"))
        finally:
            prometheus.__exit__()
    finally:
        await asyncio.to_thread(up.stop)


def _ticketing(folder: Path, port: int) -> subprocess.Popen[bytes]:
    database = str(folder / f"ticketing-{port}.db")
    command = [sys.executable, "-m", "ticketing", "serve", "--port", str(port), "--database", database]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


async def _listens(port: int) -> None:
    async with asyncio.timeout(90):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
