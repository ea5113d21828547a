"""What the two ways to Countersign have in common."""

from __future__ import annotations

from typing import Any, Protocol

from countersign_contracts.actions import ActionResult


class Transport(Protocol):
    """One connection of one agent."""

    async def open(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """Disconnect."""

    async def submit(self, body: dict[str, Any], timeout_s: float, *, queued: bool) -> ActionResult:
        """Hand in an action, repeating until it is accepted; returns its state. Not ``queued``: through no stream."""

    async def call(self, body: dict[str, Any], wait_s: float) -> ActionResult:
        """Hand in an action and wait up to ``wait_s`` seconds for its outcome."""

    async def get(self, request_id: str, wait_s: float) -> ActionResult:
        """What became of an action; waits up to ``wait_s`` seconds for its outcome."""

    async def cancel(self, request_id: str, reason: str | None) -> ActionResult:
        """Withdraw it."""

    async def heartbeat(self, body: dict[str, Any]) -> None:
        """Send one heartbeat."""
