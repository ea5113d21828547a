"""When the database is away: which errors say so, and writing what must be written however long it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

from countersign_contracts.errors import Unavailable

R = TypeVar("R")

#: The database (or the way to it) is at fault, not what was asked of it: the same may succeed later.
AWAY: tuple[type[Exception], ...] = (
    Unavailable,
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection of which the server has said, unasked, that it is ending it
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
)


async def until_written(write: Callable[[], Awaitable[R]], log: Any) -> R:
    """Repeat ``write`` until the database takes it; what it raises otherwise is raised here."""
    pause = 0.05
    while True:
        try:
            return await write()
        except AWAY as error:
            log.error("cannot write an outcome; trying on", error=str(error) or type(error).__name__)
        await asyncio.sleep(pause)
        pause = min(pause * 2, 2.0)
