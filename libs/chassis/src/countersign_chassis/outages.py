"""Failures of what a service stands on, as opposed to failures of what it was given: they pass by themselves."""

from __future__ import annotations

import asyncpg

from countersign_contracts.errors import Unavailable

OUTAGES: tuple[type[Exception], ...] = (
    Unavailable,
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection of which the server has said, unasked, that it is ending it
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
)
