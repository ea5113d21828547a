"""Votes that did not count, on the record: the first few of a minute on each approval; all of them are counted."""

from __future__ import annotations

from datetime import timedelta

from countersign_chassis import Database
from countersign_contracts.approval_commands import CastVote
from countersign_contracts.approvals import ApprovalVoteRefused
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now

from .outbox import Outbox
from .store import Approval

#: How many refusals on one approval are recorded in a minute: who floods it does not flood the ledger.
MOST_A_MINUTE = 5

_COUNT = """
INSERT INTO refusal (approval_id, minute, n) VALUES ($1, $2, 1)
ON CONFLICT (approval_id, minute) DO UPDATE SET n = refusal.n + 1 RETURNING n
"""
_FORGET = "DELETE FROM refusal WHERE minute < $1"


class Refusals:
    """Records refused votes."""

    def __init__(self, db: Database, outbox: Outbox) -> None:
        self._db = db
        self._outbox = outbox

    async def record(self, approval: Approval, command: CastVote, voter: str | None, error: CountersignError) -> None:
        """Tell of a refused vote, unless this minute has told of enough."""
        at = now()
        kind, _, name = command.voter.partition(":")
        async with self._db.transaction() as connection:
            n = await connection.fetchval(_COUNT, approval.approval_id, at.replace(second=0, microsecond=0))
            if n > MOST_A_MINUTE:
                return
            event = ApprovalVoteRefused(
                approval_id=approval.approval_id,
                action=approval.held.action.ref(),
                refusal=prefixed("ref"),
                voter=voter,
                channel=command.channel,
                identity=None if kind == "person" else name,
                code=error.code,
                reason=error.detail,
                refused_at=at,
            )
            told = await self._outbox.add(connection, [(event, approval.traceparent)])
        await self._outbox.send(told)

    async def forget(self) -> None:
        """What was counted long ago is of no use any more."""
        await self._db.pool.execute(_FORGET, now() - timedelta(hours=1))
