"""Tasks that end when they are told to."""

from __future__ import annotations

import asyncio
from typing import Any

#: How long a task may take over its cancellation before it is cancelled again, in seconds.
_AGAIN_S = 0.5


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel them, and return once they have ended, whatever came of them.

    Again and again: before Python 3.12 ``asyncio.wait_for``, by which nats-py waits for its answers, loses a
    cancellation that comes together with the answer, and the task goes on for ever.
    """
    while unfinished := [task for task in tasks if not task.done()]:
        for task in unfinished:
            task.cancel()
        await asyncio.wait(unfinished, timeout=_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
