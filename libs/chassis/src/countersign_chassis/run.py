"""Run one service as a process: event loop, signals, exit code."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable

import uvloop

from countersign_contracts.errors import CountersignError

from .service import Service


def run(make: Callable[[], Service]) -> int:
    """Build and run a service until SIGTERM or SIGINT; returns the process's exit code."""
    try:
        return uvloop.run(_main(make))
    except CountersignError as error:
        sys.stderr.write(f"countersign: {error.detail}\n")
        return 1


async def _main(make: Callable[[], Service]) -> int:
    service = make()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    starting = asyncio.create_task(service.start())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
        await stopping
    else:
        starting.cancel()
    await service.stop()
    return 0
