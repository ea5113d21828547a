"""Runs one `Program` without a supervisor: for tests and tools that need just a real PostgreSQL or NATS."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from countersign_cli.embedded.errors import EmbeddedError
from countersign_cli.embedded.specs import Program

_POLL_SECONDS = 0.01


class LoneServer:
    """One process, started and stopped by hand. Nothing ends it when this process is killed."""

    def __init__(self, program: Program, log: Path) -> None:
        self._program = program
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether its process has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, preexec: Callable[[], None] | None = None, *, seconds: float = 30.0) -> None:
        """Starts it, with `preexec` in place of the program's own, and returns when it is ready.

        Raises:
            EmbeddedError: it ended, or was not ready within so many seconds.
        """
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._program.argv,
                env=self._program.env,
                preexec_fn=preexec,
                cwd=self._log.parent,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + seconds
        while not self._program.ready():
            if self._process.poll() is not None:
                raise EmbeddedError(f"{self._program.name} ended while starting: see {self._log}")
            if time.monotonic() > deadline:
                self.stop([self._program.stop_signal])
                raise EmbeddedError(
                    f"{self._program.name} did not become ready within {seconds:.0f} s: see {self._log}"
                )
            time.sleep(_POLL_SECONDS)

    def stop(self, signals: Sequence[signal.Signals]) -> None:
        """Stops it: each signal in turn, then SIGKILL; returns when it has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        for number in signals:
            process.send_signal(number)
            try:
                process.wait(self._program.stop_seconds)
                return
            except subprocess.TimeoutExpired:
                continue
        process.kill()
        process.wait()
