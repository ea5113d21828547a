"""The approvals service as a whole."""

from __future__ import annotations

from countersign_chassis import NO_FAILPOINTS, Failpoints, Service
from countersign_contracts.approval_commands import (
    CastVote,
    CommitApprovalRules,
    GetApproval,
    ListApprovals,
    ListStandings,
    PrepareApprovalRules,
    RevokeStanding,
)
from countersign_contracts.projection import PEOPLE, TOOLS
from countersign_contracts.webhook_commands import ListDeliveries, ListWebhooks, RepeatDeliveries

from .changes import Changes
from .clock import Clock
from .declaration_store import DeclarationStore
from .desk import Desk
from .measures import Measures
from .outbox import Outbox
from .people import PeopleChanges
from .reading import Reading
from .refusals import Refusals
from .roster import Roster
from .settings import Settings
from .standing_store import StandingStore
from .standings import StandingApprovals
from .store import Store
from .voting import Voting
from .webhooks import Webhooks
from .webhooks_measures import WebhookMeasures
from .webhooks_reading import WebhooksReading
from .webhooks_secrets import WebhookSecrets
from .webhooks_sender import WebhookSender
from .webhooks_store import WebhookStore


def build(settings: Settings, failpoints: Failpoints = NO_FAILPOINTS) -> Service:
    """Wire the service. Nothing connects before ``start``."""
    service = Service("approvals", settings, failpoints)
    service.migrations("countersign_approvals")
    people = service.mirror(PEOPLE)
    roster = Roster(people)
    measures = Measures(service.metrics)
    outbox = Outbox(service.db, service.bus, service.log)
    store = Store(service.db)
    declarations = DeclarationStore(service.db)
    refusals = Refusals(service.db, outbox)
    reading = Reading(store, roster)
    standings = StandingApprovals(store, StandingStore(service.db), roster, outbox, measures, failpoints)
    voting = Voting(store, reading, roster, standings, refusals, outbox, measures, failpoints)
    desk = Desk(store, declarations, roster, standings, outbox, measures, failpoints)
    secrets = WebhookSecrets(settings.webhook_secrets_folder)
    changes = Changes(declarations, service.mirror(TOOLS), secrets, outbox, failpoints)
    changed = PeopleChanges(store, people, roster, standings, outbox, measures, failpoints)
    clock = Clock(store, outbox, refusals, measures, failpoints, settings.deadline_poll_s)
    deliveries = WebhookStore(service.db)
    sender = WebhookSender(
        deliveries,
        declarations,
        secrets,
        WebhookMeasures(service.metrics),
        failpoints,
        service.log,
        timeout_s=settings.webhook_timeout_s,
        poll_s=settings.webhook_poll_s,
        at_once=settings.webhook_posts_at_once,
    )
    webhooks = Webhooks(deliveries, declarations, sender)
    webhooks_read = WebhooksReading(deliveries, declarations, sender, service.log)

    service.on_start(desk.keep_unpublished)
    service.consume("approvals-actions", desk.actions, max_batch=64)
    service.consume("approvals-people", changed.changed)
    service.consume("approvals-webhooks", webhooks.happened)
    service.consume("approvals-alerts", webhooks.happened)
    service.answer(ListApprovals, reading.page)
    service.answer(GetApproval, reading.get)
    service.answer_caller(CastVote, voting.vote)
    service.answer(ListStandings, standings.page)
    service.answer(RevokeStanding, standings.revoke)
    service.answer(PrepareApprovalRules, changes.prepare)
    service.answer(CommitApprovalRules, changes.commit)
    service.answer(ListWebhooks, webhooks_read.list)
    service.answer(ListDeliveries, webhooks_read.deliveries)
    service.answer(RepeatDeliveries, webhooks_read.repeat)
    service.background(clock.run, "deadlines")
    service.background(clock.watch, "gauges")
    service.background(lambda: outbox.publish_leftovers(settings.leftovers_poll_s), "leftovers")
    service.background(sender.run, "webhooks")
    service.background(sender.watch, "webhooks' gauges")
    return service
