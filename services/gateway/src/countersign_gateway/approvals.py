"""What is heard of approvals is told to who asked: whom the action waits for, and what happened meanwhile."""

from __future__ import annotations

from countersign_chassis import Delivery
from countersign_contracts.actions import ActionResult

from .approval_rows import ApprovalRows
from .outcomes import Announce
from .store import Row


class Approvals:
    """Handler of the gateway's consumer of stream APPROVALS."""

    def __init__(self, rows: ApprovalRows, announce: Announce) -> None:
        self._rows = rows
        self._announce = announce

    async def progress(self, batch: list[Delivery]) -> None:
        """Write what was heard to the rows of actions that wait; tell agents that listen."""
        rows = await self._rows.heard([delivery.event for delivery in batch])
        await self._announce([_held(row) for row in rows if row.channel != "http" and row.result.approval is not None])


def _held(row: Row) -> ActionResult:
    """People were asked, so it is held, though the row may not say so yet."""
    approval = row.result.approval or {}
    update = {"state": "held", "decision": "hold", "approval_id": approval.get("approval_id")}
    return row.result.model_copy(update=update)
