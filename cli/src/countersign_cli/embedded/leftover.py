"""Ends a server that an earlier run left behind, and only such a one.

The guardian leaves none; this is for what remains when the guardian was killed as well.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_STEP_SECONDS = 4.0


def end_leftover(pid: int, program: str, marker: str, signals: Sequence[signal.Signals]) -> None:
    """Ends process `pid`, if it is `program` with `marker` in its arguments: signals in turn, SIGKILL last."""
    if not _is(pid, program, marker):
        return
    for number in (*signals, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + _STEP_SECONDS
        while time.monotonic() < deadline:
            if not _is(pid, program, marker):
                return
            time.sleep(0.02)


def process_exists(pid: int) -> bool:
    """Whether there is a process of that number, whoever it belongs to."""
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


def runs_another_program(pid: int, program: str) -> bool:
    """Whether process `pid` is there, and certainly not `program`, nor a child of it that shows its name in front.

    A zombie is no program any more.
    """
    words = _command(pid)
    return bool(words) and not Path(words[0]).name.startswith(program)


def _is(pid: int, program: str, marker: str) -> bool:
    words = _command(pid)
    return bool(words) and Path(words[0]).name == program and any(marker in word for word in words[1:])


def _command(pid: int) -> list[str]:
    """The command line, in words where `/proc` gives them, else the program and the rest.

    Nothing if there is no such process or it is hidden; one empty word for a zombie.
    """
    if pid <= 0:
        return []
    if Path("/proc/self/cmdline").exists():
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return []
        return [os.fsdecode(word) for word in raw.rstrip(b"\0").split(b"\0")]
    shown = subprocess.run(
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip().split(" ", maxsplit=1) if shown.stdout.strip() else []
