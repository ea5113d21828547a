"""`make test-compose`: the compose file on a real engine; up, the demonstration's acts, kills, scaling, down and up.

Without an engine it says so and is skipped. Nothing of an installation that runs beside it is touched: the project and
its ports are this test's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from countersign_cli.bootstrap import Layout
from countersign_cli.client import Client
from countersign_cli.commands.audit import export_lines, verify_file
from countersign_cli.commands.demo import example_files, free_ports
from countersign_cli.demo.run import play
from countersign_cli.demo.stage import AGENT
from countersign_cli.embedded.datadir import write_secret
from countersign_contracts.errors import CountersignError
from countersign_contracts.event import CORE_SERVICES

ROOT = Path(__file__).parents[2]
READY_S = 60


class Compose:
    """One project, and its ports on this machine."""

    def __init__(self, folder: Path) -> None:
        gateway, nats, ticketing, ungoverned = free_ports(4)
        self.url, self.nats_url = f"http://127.0.0.1:{gateway}", f"nats://127.0.0.1:{nats}"
        self.ticketing_url, self.ungoverned_url = (f"http://127.0.0.1:{port}" for port in (ticketing, ungoverned))
        secrets = folder / "secrets"
        secrets.mkdir(mode=0o755)
        self._environ = os.environ | {
            "COUNTERSIGN_PORT": str(gateway),
            "COUNTERSIGN_NATS_PORT": str(nats),
            "TICKETING_PORT": str(ticketing),
            "UNGOVERNED_PORT": str(ungoverned),
            "COUNTERSIGN_SECRETS": str(secrets),
            "COUNTERSIGN_LOG_LEVEL": "warning",
        }
        self._command = ["docker", "compose", "-p", f"countersign-test-{os.getpid()}"]
        self._command += ["-f", "docker-compose.yml", "-f", "tests/compose/with-example.yml"]

    def __call__(self, *arguments: str, check: bool = True) -> str:
        """Run `docker compose`; raises with what it said."""
        done = subprocess.run(
            [*self._command, *arguments], cwd=ROOT, env=self._environ, capture_output=True, text=True, check=False
        )
        if check and done.returncode != 0:
            raise SystemExit(f"docker compose {' '.join(arguments)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done.stdout

    def up(self, *arguments: str) -> float:
        """Start what does not run; the seconds until all is healthy."""
        began = time.monotonic()
        self("up", "-d", "--wait", "--wait-timeout", str(READY_S), *arguments)
        return time.monotonic() - began

    def read(self, service: str, file: str) -> str:
        """A file of a container."""
        return self("exec", "-T", service, "cat", f"/var/lib/countersign/{file}")


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is done, and how long it took."""
    print(f"  {what} …", flush=True)
    began = time.monotonic()
    yield
    print(f"    done in {time.monotonic() - began:.1f} s", flush=True)


def main() -> None:
    """Run all of it; exit code 1 with the first thing that is not as it should be."""
    if why := no_engine():
        print(f"test-compose: SKIPPED, {why}")
        return
    with tempfile.TemporaryDirectory(prefix="countersign-compose-") as folder:
        compose = Compose(Path(folder))
        layout = Layout(Path(folder))
        try:
            with step("the image"):
                compose("build")
            with step("up, to healthy"):
                compose.up()
            check(compose, layout)
        except BaseException:
            print(compose("logs", "--tail", "15", check=False)[-6000:], file=sys.stderr)
            raise
        finally:
            compose("down", "--volumes", "--timeout", "20", check=False)
    print("test-compose: passed")


def check(compose: Compose, layout: Layout) -> None:
    """What a running project must show."""
    write_secret(layout.admin_token, compose.read("registry", "admin.token"))
    layout.trust.write_text(compose.read("audit", "trust.json"))
    with step("the demonstration's acts"):
        asyncio.run(
            play(
                url=compose.url,
                nats_url=compose.nats_url,
                layout=layout,
                files=example_files(),
                ticketing_url=compose.ticketing_url,
                ungoverned_url=compose.ungoverned_url,
                checkpoints=None,
                called_at="http://ticketing:8000",
            )
        )
    with step("least privilege"):
        unprivileged(compose)
    admin = Client(compose.url, layout.admin_token.read_text().strip())
    for service in CORE_SERVICES:
        with step(f"the {service} service killed"):
            container = compose("ps", "-q", service).strip()
            # as the service's own user, from within: what the engine kills itself it would not start again
            compose("exec", "-T", service, "python", "-c", "import os; os.kill(-1, 9)", check=False)
            deadline = time.monotonic() + 20
            while restarts(container) == 0 and time.monotonic() < deadline:
                time.sleep(0.1)
            require(restarts(container) == 1, "the engine started it again, by itself")
            compose.up()
            works(admin)
    with step("three executors, and a stop"):
        compose.up("--scale", "executor=3", "--no-recreate")
        works(admin)
        stop = admin.post("/api/v1/stops", {"scope": "all", "reason": "a drill"})
        denied = ask(admin)
        require(denied["state"] == "denied" and "a drill" in denied["reason"], f"a stop denies: {denied}")
        admin.delete(f"/api/v1/stops/{stop['stop_id']}")
    with step("down, and up with the same volumes"):
        head = admin.get("/api/v1/audit/head")["seq"]
        compose("down", "--timeout", "20")
        compose.up()
        require(admin.get("/api/v1/audit/head")["seq"] >= head, "the ledger is there")
        works(admin)
    with step("the ledger against the checkpoints"):
        layout.checkpoints.write_text(compose.read("audit", "checkpoints.jsonl"))
        export = layout.root / "export.jsonl"
        export.write_text("\n".join(export_lines(admin)) + "\n")
        report = verify_file(export, layout.trust, layout.checkpoints)
        require(report.ok, f"the ledger verifies: {report}")


def unprivileged(compose: Compose) -> None:
    """No root, nothing writable but what must be, nobody else's keys, no way around the gateway."""
    for service in CORE_SERVICES:
        require(compose("exec", "-T", service, "id", "-u").strip() == "10001", f"{service} is not root")
        wrote = compose("exec", "-T", service, "sh", "-c", "touch /x /var/lib/countersign/x 2>&1; ls /x", check=False)
        require("Read-only file system" in wrote, f"{service} cannot write to its image")
        keys = compose("exec", "-T", service, "sh", "-c", "ls /var/lib/countersign/keys/*.json").split()
        require(
            keys == [f"/var/lib/countersign/keys/{service}.json"], f"{service} has its own signing key alone: {keys}"
        )
    reached = compose(
        "exec",
        "-T",
        "ticketing",
        "python",
        "-c",
        "import socket; socket.create_connection(('postgres', 5432), 3)",
        check=False,
    )
    require(reached == "", "the database is out of reach from outside")


def restarts(container: str) -> int:
    """How often the engine started the container again."""
    command = ["docker", "inspect", "--format", "{{.RestartCount}}", container]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def works(admin: Client) -> None:
    """A governed action succeeds, end to end, within twenty seconds of trying."""
    deadline = time.monotonic() + 20
    while True:
        try:
            answer = ask(admin)
        except CountersignError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
            continue
        require(answer["state"] == "succeeded", f"an action succeeds: {answer}")
        return


def ask(admin: Client) -> dict[str, Any]:
    """An action of the example's agent, and its outcome."""
    token = admin.post(f"/api/v1/agents/{AGENT}/credentials", {"kinds": ["http"]})["http_token"]
    body = {"tool": "list_tickets", "args": {"status": "open"}, "env": "prod", "session_id": f"s-{time.time_ns()}"}
    answer: dict[str, Any] = Client(admin.url, token).post("/api/v1/actions", body, headers={"Prefer": "wait=15"})
    return answer


def no_engine() -> str:
    """Why it cannot run here; empty if it can."""
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return "there is no `docker` command"
        if done.returncode != 0:
            return f"`{' '.join(command)}` says: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
    return ""


def require(true: bool, what: str) -> None:
    """Fail with one line."""
    if not true:
        raise SystemExit(f"test-compose: FAILED: {what}")


if __name__ == "__main__":
    main()
