"""Ports for what a test starts as processes: each test worker has a range that no other looks into."""

from __future__ import annotations

import os
import random
import socket

#: Below the ports that systems give to outgoing connections, and below those that the demonstration takes.
_FIRST, _LAST, _WORKERS = 10_000, 19_600, 8


def free_run(count: int) -> int:
    """The first of ``count`` neighbouring free ports."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    width = (_LAST - _FIRST) // _WORKERS
    lane = range(_FIRST + worker * width, _FIRST + (worker + 1) * width - count)
    for first in random.sample(lane, len(lane)):
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise AssertionError(f"no {count} neighbouring free ports from {lane.start} to {lane.stop}")


def _is_free(port: int) -> bool:
    with socket.socket() as each:
        try:
            each.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
