"""The approvals service as a whole."""

from __future__ import annotations

from countersign_chassis import NO_FAILPOINTS, Failpoints, Service
from countersign_contracts.approval_commands import (
    CastVote,
    CommitApprovalRules,
    GetApproval,
    ListApprovals,
    PrepareApprovalRules,
)
from countersign_contracts.projection import TOOLS

from .changes import Changes
from .declaration_store import DeclarationStore
from .desk import Desk
from .outbox import Outbox
from .settings import Settings
from .store import Store

_AGES_S = (1, 5, 15, 60, 300, 900, 3600, 14400, 86400)


def build(settings: Settings, failpoints: Failpoints = NO_FAILPOINTS) -> Service:
    """Wire the service. Nothing connects before ``start``."""
    service = Service("approvals", settings, failpoints)
    service.migrations("countersign_approvals")
    metrics = service.metrics
    desk = Desk(
        settings,
        Store(service.db),
        service.bus,
        failpoints,
        service.log,
        resolved=metrics.counter("countersign_approvals_resolved", "Approvals that ended", ["state"]),
        refused=metrics.counter("countersign_votes_refused", "Votes that did not count", ["reason"]),
        pending=metrics.gauge("countersign_approvals_pending", "Approvals that wait for people"),
        oldest=metrics.gauge("countersign_approvals_oldest_seconds", "Age of the oldest pending approval"),
        time_to_decision=metrics.histogram(
            "countersign_approval_decision_seconds", "From request to decision by a person", buckets=_AGES_S
        ),
    )
    service.consume("approvals-actions", desk.actions, max_batch=64)
    service.answer(ListApprovals, desk.list)
    service.answer(GetApproval, desk.get)
    service.answer(CastVote, desk.vote)
    outbox = Outbox(service.db, service.bus, service.log)
    changes = Changes(DeclarationStore(service.db), service.mirror(TOOLS), outbox, failpoints)
    service.answer(PrepareApprovalRules, changes.prepare)
    service.answer(CommitApprovalRules, changes.commit)
    service.background(lambda: outbox.publish_leftovers(settings.leftovers_poll_s), "events")
    service.background(desk.watch_deadlines, "deadlines")
    service.background(desk.publish_leftovers, "leftovers")
    return service
