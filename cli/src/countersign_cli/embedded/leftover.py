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


def end_leftover(pid: int, program: str, marker: str, signals: Sequence[signal.Signals]) -> bool:
    """Ends process `pid`, if it is `program` with `marker` in its arguments: signals in turn, SIGKILL last.

    Returns False, having done nothing, if it is another program (the number was used again) or none.
    """
    if not _is(pid, program, marker):
        return False
    for number in (*signals, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + _STEP_SECONDS
        while time.monotonic() < deadline:
            if not _is(pid, program, marker):
                return True
            time.sleep(0.02)
    return True


def process_exists(pid: int) -> bool:
    """Whether there is a process of that number, whoever it belongs to."""
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


def _is(pid: int, program: str, marker: str) -> bool:
    words = _command(pid)
    return bool(words) and Path(words[0]).name == program and any(marker in word for word in words[1:])


def _command(pid: int) -> list[str]:
    """The command line: in words where `/proc` gives them, else the program and the rest; empty if gone."""
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
    return shown.stdout.strip().split(" ", maxsplit=1)
