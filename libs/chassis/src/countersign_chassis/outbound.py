"""Connections to elsewhere that can only go where they may.

Every address that a name resolves to is judged, once, and the connection goes to exactly those: what was judged is
what is connected to, so a name that changes its answer gains nothing.
"""

from __future__ import annotations

import socket
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from .egress import refusal


class EgressRefused(PermissionError):
    """The address is none that may be reached; nothing was connected."""


class CheckedResolver(AbstractResolver):
    """Resolves names, and refuses those that lead (also) to an address that may not be reached."""

    def __init__(self, inner: AbstractResolver, *, allow_private: bool, allow_public: bool = True) -> None:
        self._inner = inner
        self._allow_private = allow_private
        self._allow_public = allow_public

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for one in found:
            if reason := refusal(one["host"], allow_private=self._allow_private, allow_public=self._allow_public):
                raise EgressRefused(f"{host} resolves to an address that is refused: {reason}")
        return found

    async def close(self) -> None:
        await self._inner.close()


class JudgedConnector(aiohttp.TCPConnector):
    """A connection pool whose every connection was judged, as :func:`.egress.refusal` does."""

    def __init__(
        self, resolver: AbstractResolver, *, allow_private: bool, allow_public: bool = True, **options: Any
    ) -> None:
        self._allow_private = allow_private
        self._allow_public = allow_public
        super().__init__(
            resolver=CheckedResolver(resolver, allow_private=allow_private, allow_public=allow_public),
            socket_factory=self._judged_socket,
            **options,
        )

    def _judged_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        # addresses written as such in the URL pass no resolver; this sees whatever is connected to
        family, kind, protocol, _, address = info
        if reason := refusal(str(address[0]), allow_private=self._allow_private, allow_public=self._allow_public):
            raise EgressRefused(reason)
        return socket.socket(family, kind, protocol)
