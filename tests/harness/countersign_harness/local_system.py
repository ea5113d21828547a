"""`countersign up` as a process of its own, for tests of what a person runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from countersign_cli.client import Client
from countersign_contracts.errors import CountersignError

from .ports import free_run

COMMAND = [sys.executable, "-m", "countersign_cli"]


class Up:
    """`countersign up` in a folder of its own, on free ports."""

    def __init__(self, folder: Path, *more: str, gateways: int = 1, further: int = 0) -> None:
        self.folder = folder
        # neighbours: the gateways, the services' health ports, nats-server
        first = free_run(gateways + 6 + further + 1)
        self.options = ["--data-dir", str(folder), "--port", str(first), "--health-port", str(first + gateways)]
        self.options += ["--nats-port", str(first + gateways + 6 + further), *more]
        self.urls = [f"http://127.0.0.1:{first + i}" for i in range(gateways)]
        self.url = self.urls[0]
        self.nats_url = f"nats://127.0.0.1:{first + gateways + 6 + further}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start; returns the seconds until ready."""
        began = time.monotonic()
        self.process = subprocess.Popen([*COMMAND, "up", *self.options], stdout=subprocess.DEVNULL)
        client = Client(self.url, "none")
        while time.monotonic() - began < 60:
            assert self.process.poll() is None, "`up` ended while starting"
            try:
                client.get("/health/ready", timeout_s=1)
                if not (self.folder / "run.json").exists():  # further gateways start
                    raise CountersignError("not yet")
                return time.monotonic() - began
            except CountersignError:
                time.sleep(0.05)
        raise AssertionError("not ready within 60 s")

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stop; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Another command that finds this system by its folder, in an environment with ``more`` in it."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("COUNTERSIGN_")}
        env |= {"COUNTERSIGN_DATA_DIR": str(self.folder), "COLUMNS": "200"} | more
        return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, env=env, timeout=60, check=False)

    def json(self, *arguments: str) -> Any:
        """The same with --json."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def ready(self) -> bool:
        """Whether every process says that it can work; asked in here, where a command would be a process each time."""
        return all(_ready(port) for name, port in self.ports().items() if name != "nats")

    def pids(self) -> dict[str, int]:
        """What runs."""
        return self._run()["pids"]

    def ports(self) -> dict[str, int]:
        """Where each process answers /health and /metrics."""
        return self._run()["ports"]

    def _run(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = json.loads((self.folder / "run.json").read_text())
        return found


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
