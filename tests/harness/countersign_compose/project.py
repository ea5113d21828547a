"""One project of the compose file on a real engine: its commands, its ports, its containers."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from countersign_cli.client import Client
from countersign_cli.commands.demo import free_ports
from countersign_cli.demo.stage import AGENT
from countersign_contracts.actions import FINAL_STATES
from countersign_contracts.errors import CountersignError

ROOT = Path(__file__).parents[3]
#: Of a machine that does much else; on one of its own it takes ten to twenty seconds.
READY_S = 300
FILES = ("docker-compose.yml", *(f"tests/compose/with-{what}.yml" for what in ("example", "slack", "observability")))


class Project:
    """Nothing of an installation that runs beside it is touched: the name and the ports are its own."""

    def __init__(self, folder: Path) -> None:
        gateway, nats, ticketing, ungoverned, self.prometheus, grafana = free_ports(6)
        self.url, self.nats_url = f"http://127.0.0.1:{gateway}", f"nats://127.0.0.1:{nats}"
        self.ticketing_url, self.ungoverned_url = (f"http://127.0.0.1:{port}" for port in (ticketing, ungoverned))
        self.slack_folder = folder / "slack"
        for mounted in (folder / "secrets", self.slack_folder):
            mounted.mkdir(mode=0o755)
        self._environ = os.environ | {
            "COUNTERSIGN_PORT": str(gateway),
            "COUNTERSIGN_NATS_PORT": str(nats),
            "COUNTERSIGN_PROMETHEUS_PORT": str(self.prometheus),
            "COUNTERSIGN_GRAFANA_PORT": str(grafana),
            "TICKETING_PORT": str(ticketing),
            "UNGOVERNED_PORT": str(ungoverned),
            "COUNTERSIGN_SECRETS": str(folder / "secrets"),
            "COUNTERSIGN_SLACK": str(self.slack_folder),
            "COUNTERSIGN_LOG_LEVEL": "warning",
        }
        self._command = ["docker", "compose", "-p", f"countersign-test-{os.getpid()}"]
        self._command += [argument for file in FILES for argument in ("-f", file)]

    def __call__(self, *arguments: str, check: bool = True) -> str:
        """Run `docker compose`; raises with what it said."""
        return self.run(*arguments, check=check).stdout

    def run(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """The same, with its exit code."""
        done = subprocess.run(
            [*self._command, *arguments], cwd=ROOT, env=self._environ, capture_output=True, text=True, check=False
        )
        if check and done.returncode != 0:
            raise SystemExit(f"docker compose {' '.join(arguments)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done

    def up(self, *arguments: str, profiles: tuple[str, ...] = ()) -> float:
        """Start what does not run; the seconds until all is healthy."""
        began = time.monotonic()
        asked = [argument for profile in profiles for argument in ("--profile", profile)]
        command = (*asked, "up", "-d", "--wait", "--wait-timeout", str(READY_S), *arguments)
        # who is unhealthy now may only be slow to find what was killed; `--wait` does not wait for that
        while "is unhealthy" in self.run(*command).stderr and time.monotonic() < began + READY_S:
            time.sleep(1)
        self(*command)
        return time.monotonic() - began

    def read(self, service: str, file: str) -> str:
        """A file of a container."""
        return self("exec", "-T", service, "cat", f"/var/lib/countersign/{file}")

    def python(self, service: str, source: str) -> subprocess.CompletedProcess[str]:
        """Run a program in a container."""
        return self.run("exec", "-T", service, "python", "-c", source)

    def containers(self, service: str) -> list[str]:
        """The ids of a service's containers, those that ended included."""
        return self("ps", "--all", "-q", service).split()

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine knows of a service's first container."""
        return inspect(self.containers(service)[0])


def inspect(container: str) -> dict[str, Any]:
    """What the engine knows of a container."""
    found: list[dict[str, Any]] = json.loads(docker("inspect", container))
    return found[0]


def docker(*arguments: str) -> str:
    """Run `docker`; raises if it fails."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is done, and how long it took."""
    print(f"  {what} …", flush=True)
    began = time.monotonic()
    yield
    print(f"    done in {time.monotonic() - began:.1f} s", flush=True)


def require(true: object, what: str) -> None:
    """Fail with one line."""
    if not true:
        raise SystemExit(f"test-compose: FAILED: {what}")


def works(admin: Client, seconds: float = 90) -> None:
    """A governed action succeeds, end to end, within ``seconds`` of trying."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = ask(admin)
        except CountersignError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
            continue
        if answer["state"] in FINAL_STATES or time.monotonic() > deadline:
            require(answer["state"] == "succeeded", f"an action succeeds: {answer}")
            return


def ask(admin: Client, tool: str = "list_tickets", **args: Any) -> dict[str, Any]:
    """An action of the example's agent, and its outcome, or how far it came within fifteen seconds."""
    token = admin.post(f"/api/v1/agents/{AGENT}/credentials", {"kinds": ["http"]})["http_token"]
    body = {"tool": tool, "args": args or {"status": "open"}, "env": "prod", "session_id": f"s-{time.time_ns()}"}
    answer: dict[str, Any] = Client(admin.url, token).post("/api/v1/actions", body, headers={"Prefer": "wait=15"})
    return answer
