"""Processes that stand still: connected, and silent."""

from __future__ import annotations

import os
import signal
import subprocess
import time

PATIENCE_S = 20.0


def stand_still(pid: int) -> None:
    """Stop the process, and return once it has: until one of its threads has taken the signal, the others go on.

    Raises :class:`ProcessLookupError` if there is none.
    """
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + PATIENCE_S
    while not (state := _state(pid)).startswith("T"):
        if not state or state.startswith("Z"):
            raise ProcessLookupError(f"process {pid} has ended")
        if time.monotonic() > until:
            raise AssertionError(f"process {pid} did not stop within {PATIENCE_S:.0f} s: {state}")


def _state(pid: int) -> str:
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip()
