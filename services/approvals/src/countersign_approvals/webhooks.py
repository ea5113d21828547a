"""Webhooks: events of approvals and alerts become deliveries, one for each webhook that asks for their kind."""

from __future__ import annotations

from datetime import datetime

from countersign_chassis import Delivery
from countersign_contracts.alerts import AlertEvent
from countersign_contracts.approvals import ApprovalEvent
from countersign_contracts.model import now

from .declaration_store import DeclarationStore
from .webhooks_body import body_of, is_for
from .webhooks_schedule import GIVE_UP_AFTER
from .webhooks_sender import WebhookSender
from .webhooks_store import NewDelivery, WebhookStore


class Webhooks:
    """Handler of consumers ``approvals-webhooks`` and ``approvals-alerts``. Once the rows are committed the message is
    done with: what a receiver does, or does not, holds up nothing here."""

    def __init__(self, store: WebhookStore, declarations: DeclarationStore, sender: WebhookSender) -> None:
        self._store = store
        self._declarations = declarations
        self._sender = sender

    async def happened(self, batch: list[Delivery]) -> None:
        """Keep a delivery for each webhook and event; an event of long ago, told again, is nobody's news."""
        at = now()
        enabled = [webhook for webhook in (await self._declarations.read()).webhooks if webhook.enabled]
        deliveries = [
            NewDelivery(
                webhook.name,
                one.envelope.id,
                one.event.spec.name,
                one.event.approval_id if isinstance(one.event, ApprovalEvent) else None,
                one.event.alert.alert_id if isinstance(one.event, AlertEvent) else None,
                body_of(one.event, one.envelope.id, one.envelope.time),
            )
            for one in batch
            if isinstance(one.event, ApprovalEvent | AlertEvent)
            and at - datetime.fromisoformat(one.envelope.time) < GIVE_UP_AFTER
            for webhook in enabled
            if is_for(webhook, one.event)
        ]
        if deliveries:
            await self._store.add(deliveries, at, at + GIVE_UP_AFTER)
            self._sender.wake()
