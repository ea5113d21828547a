"""What the two ways to Countersign have in common."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Protocol

from countersign_contracts.actions import ActionPage, ActionResult
from countersign_contracts.agent_config import Configuration, Configured
from countersign_contracts.errors import CountersignError


def retry_after_s(error: CountersignError) -> float:
    """When the gateway says to come back, in seconds; 0 where it does not say."""
    said = error.extra.get("retry_after_s", 0)
    return float(said) if isinstance(said, int | float) else 0.0


def jittered(pause_s: float) -> float:
    """Up to a fifth longer, so that callers that were turned away together do not come back together."""
    return pause_s * random.uniform(1.0, 1.2)  # noqa: S311


#: Is told what was heard of an action while waiting for it, its end included.
Hears = Callable[[ActionResult], None]


class Transport(Protocol):
    """One connection of one agent. ``pushed`` is set when its configuration may be another one."""

    pushed: asyncio.Event

    async def open(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """Disconnect."""

    async def submit(self, body: dict[str, Any], timeout_s: float, *, queued: bool) -> ActionResult:
        """Hand in an action, repeating until it is accepted; returns its state. Not ``queued``: through no stream."""

    async def call(self, body: dict[str, Any], wait_s: float) -> ActionResult:
        """Hand in an action and wait up to ``wait_s`` seconds for its outcome."""

    async def get(self, request_id: str, wait_s: float, hears: Hears | None = None) -> ActionResult:
        """What became of an action; waits up to ``wait_s`` seconds for its outcome, and tells what it hears of it."""

    async def page(self, wanted: dict[str, Any]) -> ActionPage:
        """The agent's own actions, newest first; ``wanted``: session_id, state, tool, before, limit."""

    async def cancel(self, request_id: str, reason: str | None) -> ActionResult:
        """Withdraw it."""

    async def heartbeat(self, body: dict[str, Any]) -> None:
        """Send one heartbeat."""

    async def configuration(self) -> Configuration:
        """What counts for the agent now."""

    async def configured(self, said: Configured) -> None:
        """Say what came of a configuration."""

    async def tell(self, verb: str, body: bytes) -> None:
        """Hand in a batch of ``logs`` or a report of ``metrics``; returns once it is kept for the registry.

        Raises :class:`Unavailable` where it may be again, and what refuses it for good.
        """
