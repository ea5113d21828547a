"""A tool's call with its retries: the loop around :mod:`.connector`, by the rules of :mod:`.outcome`.

Every try carries the same ``Idempotency-Key`` and passes the gate anew, so a stop also ends the tries of a
call.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from countersign_contracts.catalogue import Tool

from .connector import Connector
from .masking import Masking
from .network import Gate
from .outcome import Attempt, RetryRules, pause_before_retry
from .request import HttpRequest
from .secrets import Secrets


class Withheld(Exception):
    """The gate does not let the call start. Nothing of this try was sent."""


@dataclass(frozen=True, slots=True)
class Called:
    """What the tries came to; ``withheld``: why the last one that was due did not start."""

    attempts: list[Attempt] = field(default_factory=list)
    withheld: Withheld | None = None


class Caller:
    """Calls tools. ``secrets`` gives the present ones."""

    def __init__(
        self,
        connector: Connector,
        rules: RetryRules,
        secrets: Callable[[], Secrets],
        user_agent: str,
        on_retry: Callable[[str], None],
    ) -> None:
        self._connector = connector
        self._rules = rules
        self._secrets = secrets
        self._user_agent = user_agent
        self._on_retry = on_retry
        self._chance = random.SystemRandom()

    def headers(self, tool: Tool, host: str, *, idempotency_key: str | None, traceparent: str | None) -> dict[str, str]:
        """The headers of a call to ``host``; raises :class:`.secrets.SecretWithheld`."""
        secrets = self._secrets()
        headers = {name: secrets.fill(value, host) for name, value in tool.http.headers.items()}
        headers |= {"User-Agent": self._user_agent, "Accept-Encoding": "identity"}
        headers.setdefault("Accept", "application/json, */*;q=0.5")
        if tool.http.body:
            headers["Content-Type"] = "application/json"
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        if traceparent is not None:
            headers["traceparent"] = traceparent
        return headers

    async def call(self, tool: Tool, request: HttpRequest, headers: dict[str, str], gate: Gate) -> Called:
        """Call until it is concluded. ``gate`` raises :class:`Withheld`, which ends the tries."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        attempts: list[Attempt] = []
        while True:
            try:
                attempts.append(await self._connector.attempt(tool.http, request, headers, self._mask(request), gate))
            except Withheld as withheld:
                return Called(attempts, withheld)
            pause = pause_before_retry(tool, attempts, self._rules, elapsed_s=loop.time() - began, chance=self._chance)
            if pause is None:
                return Called(attempts)
            self._on_retry(tool.name)
            await asyncio.sleep(pause)

    def _mask(self, request: HttpRequest) -> Secrets | Masking:
        secrets = self._secrets()
        return secrets if request.sensitive is None else Masking(secrets, request.sensitive)
