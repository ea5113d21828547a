"""The whole path: governed actions of a low-risk tool against a minimal downstream, on a running system.

Everything is on: signatures on every event, on record before the effect, metrics.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from countersign_cli.client import Client
from countersign_cli.commands.demo import free_ports
from countersign_cli.embedded.datadir import DataDir, write_secret
from countersign_contracts.event import CORE_SERVICES
from countersign_sdk import Agent, CountersignError
from load import Result, measure

TOOL = """
kind: tool
name: ping
description: Read something cheap.
effect: read
idempotent: true
resource: things/{thing_id}
arguments:
  type: object
  additionalProperties: false
  required: [thing_id]
  properties:
    thing_id: {type: integer}
http:
  method: GET
  url: http://127.0.0.1:PORT/things/{thing_id}
  path: [thing_id]
  allow_private: true
"""
PROFILE = """
kind: profile
name: bench
environments: [prod]
tools: [ping]
"""
AGENT = """
kind: agent
agent_id: bench-agent
name: Benchmark agent
owner: {team: platform}
profile: bench
environments: [prod]
"""


@dataclass
class Measured:
    """What a run of the whole system showed."""

    results: list[Result] = field(default_factory=list)
    start_first_s: float = 0.0
    start_again_s: float = 0.0
    memory_mib: dict[str, dict[str, float]] = field(default_factory=dict)


class System:
    """`countersign up` in a folder, as a process."""

    def __init__(
        self, folder: Path, program: Sequence[str] = ("-m", "countersign_cli"), environ: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self._program = program
        self._environ = os.environ | (environ or {})
        self.ports = free_ports(3)
        while any(port + len(CORE_SERVICES) > 65000 for port in self.ports):
            self.ports = free_ports(3)
        self.url = f"http://127.0.0.1:{self.ports[0]}"
        self.nats_url = f"nats://127.0.0.1:{self.ports[1]}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start; returns the seconds until the gateway is ready."""
        began = time.perf_counter()
        command = [sys.executable, *self._program, "up", "--data-dir", str(self.folder)]
        command += ["--port", str(self.ports[0]), "--nats-port", str(self.ports[1])]
        command += ["--health-port", str(self.ports[2]), "--log-level", "warning"]
        log = (self.folder.parent / "up.log").open("ab")
        self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environ)
        client = Client(self.url, "none")
        while time.perf_counter() - began < 60:
            try:
                client.get("/health/ready", timeout_s=1)
                return time.perf_counter() - began
            except CountersignError:
                time.sleep(0.02)
        raise SystemExit(f"the system did not become ready; see {self.folder.parent / 'up.log'}")

    def stop(self) -> None:
        """Stop it as Ctrl-C would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)

    def admin(self) -> Client:
        """The administrator's client."""
        return Client(self.url, (self.folder / "admin.token").read_text().strip())

    @property
    def pid(self) -> int:
        """The supervisor's."""
        assert self._process is not None  # noqa: S101
        return self._process.pid

    def pids(self) -> dict[str, int]:
        """Of each process, by name."""
        run = DataDir(self.folder).read_run()
        return {} if run is None else dict(run.pids)

    def metrics_urls(self) -> dict[str, str]:
        """Where each service shows its metrics."""
        run = DataDir(self.folder).read_run()
        ports = {} if run is None else {name: port for name, port in run.ports.items() if name != "nats"}
        return {name: f"http://127.0.0.1:{port}/metrics" for name, port in ports.items()}

    def memory(self) -> dict[str, dict[str, float]]:
        """Resident and proportional memory of each process, in MiB (Linux)."""
        run = DataDir(self.folder).read_run()
        found = {}
        for name, pid in (run.pids if run else {}).items():
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            values = {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines()[1:]}
            found[name] = {"rss": round(values["Rss"] / 1024, 1), "pss": round(values["Pss"] / 1024, 1)}
        return found


@contextmanager
def downstream() -> Iterator[int]:
    """The minimal business API, as a process; its port."""
    process = subprocess.Popen([sys.executable, str(Path(__file__).parent / "downstream.py")], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None  # noqa: S101
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def run(folder: Path, concurrencies: tuple[int, ...], seconds: float) -> Measured:
    """Start the system twice (first start, restart), then measure."""
    measured = Measured()
    system = System(folder / "system")
    with downstream() as port:
        try:
            measured.start_first_s = system.start()
            system.stop()
            measured.start_again_s = system.start()
            creds, token = prepare(system, folder, port)
            measured.results = uvloop.run(_measure(system, creds, token, concurrencies, seconds))
            measured.memory_mib = system.memory()
        finally:
            system.stop()
    return measured


def prepare(system: System, folder: Path, port: int) -> tuple[Path, str]:
    """Declare tool, profile and agent; the agent's NATS credentials and its token."""
    admin = system.admin()
    texts = {"ping.yaml": TOOL.replace("PORT", str(port)), "bench.yaml": PROFILE, "agent.yaml": AGENT}
    documents = [{"path": path, "text": text} for path, text in texts.items()]
    applied = admin.post("/api/v1/apply", {"documents": documents, "dry_run": False})
    if applied["errors"]:
        raise SystemExit(json.dumps(applied["errors"], indent=1))
    issued = admin.post("/api/v1/agents/bench-agent/credentials", {"kinds": ["http", "nats"]})
    creds = folder / "bench.creds"
    write_secret(creds, issued["nats_creds"])
    return creds, issued["http_token"]


async def _measure(
    system: System, creds: Path, token: str, concurrencies: tuple[int, ...], seconds: float
) -> list[Result]:
    results = []
    for name, agent in (("NATS", Agent.nats(system.nats_url, creds)), ("HTTP", Agent.http(system.url, token))):
        async with agent:

            async def once(agent: Agent = agent) -> bool:
                outcome = await agent.call("ping", {"thing_id": 7}, env="prod", wait_s=20)
                return outcome.state == "succeeded"

            for concurrency in concurrencies:
                results.append(await measure(name, concurrency, once, seconds))
    return results


def cpu_seconds(pids: dict[str, int]) -> dict[str, float]:
    """CPU seconds used by each process so far (Linux)."""
    ticks = os.sysconf("SC_CLK_TCK")
    used = {}
    for name, pid in pids.items():
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        used[name] = (int(fields[11]) + int(fields[12])) / ticks
    return used
