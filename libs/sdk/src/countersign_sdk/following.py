"""An agent follows its configuration: the present one first, then each new one, with a word on what came of it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress

from countersign_contracts.agent_config import Configuration, Configured, ConfigValues
from countersign_contracts.errors import CountersignError

from .transport import Transport

#: Takes what is new into use; raises :class:`ValueError`, which says why, if it cannot: the old one stays in force.
Apply = Callable[[ConfigValues], Awaitable[None] | None]
#: How often it is asked for where nothing says that there is another one.
_LOOK_S = 30.0


async def take(transport: Transport, found: Configuration, apply: Apply) -> None:
    """Apply it, and say so. Raises the :class:`ValueError` of ``apply``, after saying that too."""
    try:
        applied = apply(found.values)
        if inspect.isawaitable(applied):
            await applied
    except ValueError as error:
        reason = (str(error) or "no reason given")[:2000]
        await transport.configured(Configured(digest=found.digest, result="rejected", reason=reason))
        raise
    await transport.configured(Configured(digest=found.digest, result="applied"))


async def follow(transport: Transport, apply: Apply, digest: str) -> None:
    """Apply whatever is other than that of ``digest``, for ever; what was rejected is not tried again."""
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await transport.pushed.wait()
        transport.pushed.clear()
        with suppress(CountersignError, ValueError):
            found = await transport.configuration()
            if found.digest != digest:
                digest = found.digest
                await take(transport, found, apply)
