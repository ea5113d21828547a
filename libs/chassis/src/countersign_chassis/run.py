"""Run one service as a process: event loop, signals, exit code."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable

import uvloop

from countersign_contracts.errors import CountersignError

from .service import Service

#: Objects a collection of the young waits for: under load the default of 700 runs one every few messages.
_GC_THRESHOLD = 20_000


def run(make: Callable[[], Service]) -> int:
    """Build and run a service until SIGTERM or SIGINT; returns the process's exit code. Errors are a line on stderr.

    At SIGHUP it looks at once for a renewed certificate.
    """
    try:
        return serve(make)
    except CountersignError as error:
        sys.stderr.write(f"countersign: {error.detail}\n")
        return 1


def serve(make: Callable[[], Service]) -> int:
    """The same; raises the :class:`CountersignError` because of which it cannot start or go on."""
    # what was imported stays for good; without this a full collection would walk it again and again
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    return uvloop.run(_main(make))


async def _main(make: Callable[[], Service]) -> int:
    service = make()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, service.reload)
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
