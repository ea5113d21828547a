"""Connections that can only go where a tool may reach, and that start a call only while nothing forbids it.

Two guards around aiohttp's connector. *Addresses*: every address that a name resolves to is judged, once,
and the connection goes to exactly those; what was judged is what is connected to, so a name that changes its
answer gains nothing. *The gate*: when a connection stands, and before a byte of the request is written, the
caller's gate is asked; from its answer to the write nothing else runs.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection

from .egress import refusal

Gate = Callable[[], Awaitable[None]]


class EgressRefused(PermissionError):
    """The address is none that the tool may reach; nothing was connected."""


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


class CheckedResolver(AbstractResolver):
    """Resolves names, and refuses those that lead (also) to an address that may not be reached."""

    def __init__(self, inner: AbstractResolver, *, allow_private: bool) -> None:
        self._inner = inner
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for one in found:
            if reason := refusal(one["host"], allow_private=self._allow_private):
                raise EgressRefused(f"{host} resolves to an address that is refused: {reason}")
        return found

    async def close(self) -> None:
        await self._inner.close()


class GatedConnector(aiohttp.TCPConnector):
    """A connection pool whose every connection was judged and whose every use passes the gate.

    aiohttp writes a request of an idempotent *method* again by itself when a kept connection turns out dead;
    whether that is harmless is a property of the tool, so here a second write never happens.
    """

    def __init__(self, resolver: AbstractResolver, *, allow_private: bool, **options: Any) -> None:
        self._allow_private = allow_private
        super().__init__(
            resolver=CheckedResolver(resolver, allow_private=allow_private),
            socket_factory=self._judged_socket,
            **options,
        )

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

    def _judged_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        # addresses written as such in the URL pass no resolver; this sees whatever is connected to
        family, kind, protocol, _, address = info
        if reason := refusal(str(address[0]), allow_private=self._allow_private):
            raise EgressRefused(reason)
        return socket.socket(family, kind, protocol)
