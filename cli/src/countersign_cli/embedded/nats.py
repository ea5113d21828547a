"""The embedded nats-server: the real one, with a configuration that others write."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

from countersign_cli.embedded.binaries import nats_server_binary
from countersign_cli.embedded.errors import EmbeddedError
from countersign_cli.embedded.leftover import end_leftover
from countersign_cli.embedded.lone_server import LoneServer
from countersign_cli.embedded.specs import Program

_ENV = {
    "PATH": os.defpath,
    # half of the processors: the services share them, and threads that wake each other cost more than they do
    "GOMAXPROCS": str(max(1, (os.cpu_count() or 2) // 2)),
    # Go's own watcher sleeps deeply whenever all is idle, and is woken for each message, to look about every 20 µs: not
    # where a trace is wanted, and one is, every 23 days (a line in the log)
    "GODEBUG": "schedtrace=2000000000",
}


class EmbeddedNats:
    """One server.

    Args:
        config: the server's configuration file. Its `port` may be -1, for any free one.
        runtime: a folder for what the server says of itself while it runs (its ports file).
    """

    def __init__(self, config: Path, runtime: Path) -> None:
        self._config = config.absolute()
        self._runtime = runtime.absolute()
        self._lone: LoneServer | None = None

    def program(self, name: str = "nats") -> Program:
        """Says how a supervisor runs the server.

        Raises:
            EmbeddedError: it cannot run here; says why and what to do.
        """
        if not self._config.is_file():
            raise EmbeddedError(f"{self._config}, the configuration of nats-server, is missing: write it first")
        try:
            self._runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EmbeddedError(
                f"cannot use {self._runtime} for nats-server: {error.strerror}; choose another --data-dir"
            ) from error
        return Program(
            name=name,
            argv=[
                *(str(nats_server_binary()), "--config", str(self._config)),
                *("--ports_file_dir", str(self._runtime)),
            ],
            env=_ENV,
            preexec=self.clear_leftovers,
            ready=self.ready,
            stop_signal=signal.SIGTERM,
        )

    def start(self) -> None:
        """Starts the server without a supervisor; returns when it takes clients.

        Raises:
            EmbeddedError: it cannot run here; says why and what to do.
        """
        if self._lone is not None and self._lone.running:
            return
        self._lone = LoneServer(self.program(), self._runtime / "nats.log")
        self.clear_leftovers()
        self._lone.start()

    def stop(self) -> None:
        """Stops the server that `start` started; returns when it has ended."""
        if self._lone is not None:
            self._lone.stop([signal.SIGTERM])
            self._lone = None

    def kill(self) -> None:
        """Ends the server that `start` started at once, as a crash would; returns when it has ended."""
        if self._lone is not None:
            self._lone.stop([])
            self._lone = None

    def url(self) -> str | None:
        """Where clients connect (`nats://127.0.0.1:4222`); None while the server does not listen."""
        for file in self._runtime.glob("*.ports"):
            try:
                urls = json.loads(file.read_text()).get("nats", [])
            except (OSError, ValueError):  # gone, or not wholly written yet
                continue
            if urls:
                return str(urls[0])
        return None

    def ready(self) -> bool:
        """Whether the server greets a client now; it does so only once JetStream is up."""
        url = self.url()
        if url is None:
            return False
        address = urlsplit(url)
        try:
            with socket.create_connection((address.hostname, address.port), timeout=0.5) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False

    def clear_leftovers(self) -> None:
        """Ends a server that an earlier run left, and removes what killed ones said of themselves."""
        for file in self._runtime.glob("*.ports"):
            pid = file.stem.rpartition("_")[2]
            if pid.isdigit():
                end_leftover(int(pid), "nats-server", str(self._config), [signal.SIGTERM])
            file.unlink(missing_ok=True)
