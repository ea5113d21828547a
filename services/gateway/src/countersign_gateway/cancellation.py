"""Withdrawing an action before it is granted. Policy owns the decision, so policy arbitrates."""

from __future__ import annotations

from datetime import timedelta

from countersign_chassis import Bus
from countersign_contracts.actions import FINAL_STATES, ActionCancelled, ActionRef, ActionResult
from countersign_contracts.commands import CancelAction
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now

from .lifecycle import change_of
from .store import Store
from .waiters import Waiters


class Cancellation:
    """Cancels; interrupted halfway, the sweeper goes on with it."""

    def __init__(self, store: Store, bus: Bus, waiters: Waiters) -> None:
        self._store = store
        self._bus = bus
        self._waiters = waiters

    async def cancel(self, current: ActionResult, by: str, reason: str | None) -> ActionResult:
        """The cancelled action; raises `already_final` if it was granted or has ended."""
        if current.state == "cancelled":
            return current
        if current.state in FINAL_STATES or not await self._store.ask_cancel(current.request_id, by, reason):
            raise CountersignError(
                f"the action has ended already: {current.state}; only one that is not granted yet can be cancelled",
                code="already_final",
            )
        ref = ActionRef(
            request_id=current.request_id,
            agent_id=current.agent_id,
            session_id=current.session_id,
            env=current.env,
            tool=current.tool,
            tool_version=await self._tool_version(current.request_id),
            digest=current.digest,
        )
        return await self.finish(ref, by, reason)

    async def _tool_version(self, request_id: str) -> int:
        action = await self._store.action(request_id)
        return action.tool_version if action else 0

    async def finish(self, ref: ActionRef, by: str, reason: str | None) -> ActionResult:
        """Ask policy, then write and publish. Idempotent."""
        try:
            await self._bus.ask(CancelAction(request_id=ref.request_id, agent_id=ref.agent_id, by=by, reason=reason))
        except CountersignError as error:
            if error.code == "already_final":
                await self._store.forget_cancel(ref.request_id)
            raise
        at = now()
        event = ActionCancelled(action=ref, by=by, reason=reason, cancelled_at=at)
        change = change_of(event)
        await self._bus.publish(event)
        await self._store.apply([change], at, at + timedelta(seconds=10))
        result = change.to_result()
        self._waiters.tell(result)
        return result
