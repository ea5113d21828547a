"""Runs the toy system as a process, follows what it prints, and sees which of its processes are left."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from countersign_harness.ports import free_run

TOY = Path(__file__).with_name("toy_system.py")
PATIENCE_SECONDS = 60.0


class ToySystem:
    """The running toy system. `events` is everything it has printed so far."""

    def __init__(self, folder: Path, variant: str) -> None:
        self.folder = folder
        self.events: list[dict[str, Any]] = []
        self._partial = b""
        self._seen: set[int] = set()
        self.process = subprocess.Popen(
            [sys.executable, str(TOY), str(folder), variant],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "TOY_PORT": str(free_run(1))},
            start_new_session=True,
        )

    def until(self, kind: str, name: str = "", *, beyond: int = 0) -> dict[str, Any]:
        """The first event of that kind and name after the first `beyond` events."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            for event in self.events[beyond:]:
                if event.get("kind") == kind and event.get("name", "") == name:
                    return event
            if not self._read(deadline):
                output = self.process.stderr.read().decode() if self.process.stderr else ""
                raise AssertionError(f"no {kind} {name} in {self.events}; {output}")

    def end(self) -> int:
        """Reads to the end of what it prints; its exit code."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE_SECONDS)

    def errors(self) -> str:
        """What it printed for people, after its end."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def processes(self) -> set[int]:
        """It and all that descends from it now."""
        self._seen |= family_of(self.process.pid)
        return family_of(self.process.pid)

    def guardian(self) -> int:
        """Its one child that no event names."""
        named = {event.get("pid") for event in self.events}
        [pid] = (child for child, parent in living().items() if parent == self.process.pid and child not in named)
        return pid

    def left(self) -> set[int]:
        """Which of the processes ever seen are still there."""
        return self._seen & living().keys()

    def kill(self) -> None:
        self._seen |= self.processes()
        self.process.kill()
        self.process.wait()

    def destroy(self) -> None:
        """Kills whatever is left, without a chance for the supervisor to start something again meanwhile."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)
        for pid in self.processes() | self.left():
            for kill in (os.killpg, os.kill):
                with suppress(ProcessLookupError):
                    kill(pid, signal.SIGKILL)
        with self.process:  # closes the pipes, and waits
            pass

    def _read(self, deadline: float) -> bool:
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise AssertionError(f"nothing new within {PATIENCE_SECONDS} s after {self.events}")
        read = os.read(fd, 65536)
        *lines, self._partial = (self._partial + read).split(b"\n")
        self.events += [json.loads(line) for line in lines]
        return bool(read)


def living() -> dict[int, int]:
    """Every process that is not a zombie, with its parent."""
    shown = subprocess.run(["ps", "-axo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True)
    rows = [line.split() for line in shown.stdout.splitlines()]
    return {int(pid): int(parent) for pid, parent, state in rows if not state.startswith("Z")}


def family_of(pid: int) -> set[int]:
    parents = living()
    found = {pid} & parents.keys()
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Callable[..., ToySystem]]:
    """Starts toy systems; whatever a failing test leaves of them is killed."""
    started: list[ToySystem] = []

    def start(variant: str = "whole", folder: Path | None = None) -> ToySystem:
        system = ToySystem(folder or tmp_path / "data", variant)
        started.append(system)
        return system

    yield start
    for system in started:
        system.destroy()


@pytest.fixture
def all_gone() -> Callable[[Iterable[int]], None]:
    """Waits until none of these processes is left."""

    def wait(pids: Iterable[int], seconds: float = 8.0) -> None:
        deadline = time.monotonic() + seconds
        while left := set(pids) & living().keys():
            assert time.monotonic() < deadline, f"still there: {left}"
            time.sleep(0.05)

    return wait


@pytest.fixture
def free_port() -> int:
    """A TCP port that nobody uses."""
    return free_run(1)
