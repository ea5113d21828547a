"""Connections that can only go where a tool may reach, and that start a call only while nothing forbids it.

Two guards around aiohttp's connector. *Addresses*: see :mod:`countersign_chassis.outbound`. *The gate*: when a
connection stands, and before a byte of the request is written, the caller's gate is asked; from its answer to the
write nothing else runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.connector import Connection

from countersign_chassis.outbound import JudgedConnector

Gate = Callable[[], Awaitable[None]]


class AlreadySent(aiohttp.ClientError):
    """The request was written once; it is not written again."""


class Passage:
    """One request's way to the wire. ``sent``: its bytes may have left."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.sent = False

    def require_unsent(self) -> None:
        """Raises :class:`AlreadySent`."""
        if self.sent:
            raise AlreadySent("the connection was lost after the request had been sent")

    async def pass_gate(self) -> None:
        """Raises what the gate raises; afterwards the request counts as sent."""
        await self._gate()
        self.sent = True


_PASSAGE: ContextVar[Passage] = ContextVar("passage")


@contextmanager
def passing(gate: Gate) -> Iterator[Passage]:
    """Requests made inside go through ``gate``."""
    passage = Passage(gate)
    token = _PASSAGE.set(passage)
    try:
        yield passage
    finally:
        _PASSAGE.reset(token)


class GatedConnector(JudgedConnector):
    """A connection pool whose every connection was judged and whose every use passes the gate.

    aiohttp writes a request of an idempotent *method* again by itself when a kept connection turns out dead;
    whether that is harmless is a property of the tool, so here a second write never happens.
    """

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own signature
    ) -> Connection:
        passage = _PASSAGE.get()
        passage.require_unsent()
        connection = await super().connect(req, traces, timeout)
        try:
            await passage.pass_gate()
        except BaseException:
            connection.release()
            raise
        return connection
