"""What people are shown: one approval, or pages of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from countersign_contracts.approval_commands import Approvals, ApprovalView, GetApproval, ListApprovals, StageView
from countersign_contracts.approvals import approved_by, open_stage, waits_for
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import is_request_id
from countersign_contracts.sealed import has_sealed, shown

from .roster import Roster
from .rules import asked, own_names
from .store import Approval, Store

#: The largest answer with several approvals, in bytes: well below what the bus carries.
_PAGE_BYTES = 524_288
_NOT_VOTED = (
    "NOT EXISTS (SELECT FROM vote v WHERE v.approval_id = a.approval_id AND v.voter = ${} AND v.voided_at IS NULL)"
)


class Reading:
    """Answers ListApprovals and GetApproval."""

    def __init__(self, store: Store, roster: Roster) -> None:
        self._store = store
        self._roster = roster

    async def page(self, command: ListApprovals) -> Approvals:
        """A page of approvals, newest first."""
        wanted: list[tuple[str, Any]] = [
            (f"{name} = ${{}}", value)
            for name in ("state", "agent_id", "tool", "env", "risk")
            if (value := getattr(command, name)) is not None
        ]
        if command.request_id is not None:
            wanted.append(("request_id = ${}", UUID(command.request_id)))
        if command.voter is not None:
            wanted += self._waiting_for(command.voter.removeprefix("person:"))
        rows = await self._store.page(wanted, limit=command.limit + 1, after=command.after)
        items = fitting(view(row, self._roster) for row in rows[: command.limit])
        return Approvals(items=items, next=items[-1].approval_id if len(items) < len(rows) else None)

    async def get(self, command: GetApproval) -> ApprovalView:
        """One approval, by its id or by its action's request id."""
        return view(await self.find(command.approval_id), self._roster)

    async def find(self, name: str) -> Approval:
        """One approval, by its id or by its action's request id; raises `not_found`."""
        if is_request_id(name):
            rows = await self._store.page([("request_id = ${}", UUID(name))], limit=1, after=None)
            found = rows[0] if rows else None
        else:
            found = await self._store.get(name)
        if found is None:
            raise CountersignError(f"there is no approval {name}", code="not_found")
        return found

    def _waiting_for(self, name: str) -> list[tuple[str, Any]]:
        """Pending, the open stage asks them, it is not their own, and they have not voted."""
        return [
            ("a.state = ${}", "pending"),
            ("a.asks && ${}::text[]", sorted(self._roster.words(name))),
            ("NOT a.barred @> ARRAY[${}::text]", name.casefold()),
            (_NOT_VOTED, name),
        ]


def fitting(views: Iterable[ApprovalView]) -> tuple[ApprovalView, ...]:
    """As many as one answer carries, one at least: what agents sent may be large, and must not make a list fail."""
    items: list[ApprovalView] = []
    size = 0
    for each in views:
        size += len(each.to_bytes())
        if items and size > _PAGE_BYTES:
            break
        items.append(each)
    return tuple(items)


def view(approval: Approval, roster: Roster) -> ApprovalView:
    """What people are shown of an approval."""
    held, args = approval.held, approval.held.action.args
    waits = waits_for(approval.rule, approval.votes, approval.escalated_to) if approval.state == "pending" else ()
    return ApprovalView(
        approval_id=approval.approval_id,
        state=approval.state,
        action=held.action,
        shown_args=shown(args) if has_sealed(args) else None,
        decision=held.decision,
        owner_team=held.owner_team,
        owner_oncall=held.owner_oncall,
        tool_description=held.tool_description,
        resource=held.resource,
        preview=held.preview,
        requested_at=approval.requested_at,
        deadline=approval.deadline,
        overdue=approval.overdue and approval.state == "pending",
        asked_by=approval.rule,
        stages=_stages(approval, roster),
        waits_for=waits,
        escalated_to=approval.escalated_to,
        votes=approval.votes,
        resolved_at=approval.resolved_at,
        amends=held.action.amends,
        amended_as=approval.amendment.request_id if approval.amendment is not None else None,
    )


def _stages(approval: Approval, roster: Roster) -> tuple[StageView, ...]:
    rule, held = approval.rule, approval.held
    place = open_stage(rule, approval.votes)
    pending = approval.state == "pending"
    barred = frozenset() if rule.allow_own else own_names(held.action, held.owner_oncall)
    barred |= {vote.voter.casefold() for vote in approval.votes}
    found = []
    for index, stage in enumerate(rule.stages):
        done = place is None or index < place
        is_open = pending and index == place
        approvers = tuple(dict.fromkeys((*stage.approvers, *(approval.escalated_to if is_open else ()))))
        found.append(
            StageView(
                name=stage.name,
                approvers=approvers,
                people=roster.names(asked(approvers, held), barred) if pending and not done else (),
                quorum=stage.quorum,
                assurance=stage.assurance,
                approved_by=approved_by(stage, rule, approval.votes),
                state="done" if done else "open" if is_open else "waiting",
            )
        )
    return tuple(found)
