"""The commands about webhooks: what was posted to them, what waits, what was given up."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from .approval_rules import RuleName, Webhook
from .command import Command, Rpc
from .model import Frozen, Time

DeliveryState = Literal["pending", "delivered", "given_up"]


class WebhookView(Frozen):
    """A webhook and how it fares."""

    webhook: Webhook
    pending: int
    oldest: Time | None = Field(default=None, description="since when the oldest pending event waits")
    given_up: int = Field(description="in the last 30 days, and not ordered again")


class Webhooks(Frozen):
    items: tuple[WebhookView, ...]


class ListWebhooks(Command):
    """By name."""

    rpc: ClassVar[Rpc] = Rpc("approvals", "list_webhooks")
    reply: ClassVar[type[Frozen]] = Webhooks


class DeliveryView(Frozen):
    """An event for a webhook, and what became of it."""

    webhook: str
    event_id: str
    webhook_id: str = Field(description="header `webhook-id` of every post of it")
    type: str
    approval_id: str | None = Field(default=None, description="none for an alert")
    alert_id: str | None = Field(default=None, description="none for an approval")
    state: DeliveryState
    tries: int
    created_at: Time
    next_at: Time | None = Field(default=None, description="when it is tried again")
    ended_at: Time | None = None
    last_status: int | None = Field(default=None, description="HTTP status of the last answer")
    last_error: str | None = None


class Deliveries(Frozen):
    items: tuple[DeliveryView, ...]
    next: str | None = Field(default=None, description="pass as `after` for the next page")


class ListDeliveries(Command):
    """Newest first. What was delivered is kept for 8 days, what was given up for 30."""

    rpc: ClassVar[Rpc] = Rpc("approvals", "list_deliveries")
    reply: ClassVar[type[Frozen]] = Deliveries
    webhook: RuleName | None = None
    state: DeliveryState | None = None
    limit: int = Field(default=50, ge=1, le=200)
    after: str | None = None


class Repeated(Frozen):
    """How many deliveries are tried again."""

    count: int


class RepeatDeliveries(Command):
    """What was given up is tried again, as if it had just happened: all of a webhook's, or one event."""

    rpc: ClassVar[Rpc] = Rpc("approvals", "repeat_deliveries")
    reply: ClassVar[type[Frozen]] = Repeated
    webhook: RuleName
    event_id: str | None = None
    by: str
