"""The library's own NATS client, whose flush waits for what it promises to wait for."""

from __future__ import annotations

from typing import Any, Self

from nats.aio.client import DEFAULT_FLUSH_TIMEOUT, Client


class PlainClient(Client):
    """As agents and others have it: nothing of the product's own client."""

    @classmethod
    async def connected(cls, url: str, **how: Any) -> Self:
        """As ``nats.connect``."""
        client = cls()
        await client.connect(url, **how)
        return client

    async def flush(self, timeout: int = DEFAULT_FLUSH_TIMEOUT) -> None:  # noqa: ASYNC109 - the library's signature
        """Return once the server has taken in all that was said, subscriptions too.

        The library's PING overtakes what still waits to be written, which is written by the time of the PONG.
        """
        await super().flush(timeout)
        await super().flush(timeout)
