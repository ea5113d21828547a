"""Answers what people ask of webhooks: how they fare, what was given up, and that it be tried again."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from countersign_contracts.errors import CountersignError
from countersign_contracts.model import Time, now, rfc3339
from countersign_contracts.webhook_commands import (
    Deliveries,
    DeliveryView,
    ListDeliveries,
    ListWebhooks,
    RepeatDeliveries,
    Repeated,
    Webhooks,
    WebhookView,
)

from .declaration_store import DeclarationStore
from .webhooks_schedule import GIVE_UP_AFTER
from .webhooks_sender import WebhookSender
from .webhooks_signing import message_id
from .webhooks_store import Place, WebhookStore

_TIME: TypeAdapter[Any] = TypeAdapter(Time)


class WebhooksReading:
    """Handlers of the commands."""

    def __init__(self, store: WebhookStore, declarations: DeclarationStore, sender: WebhookSender, log: Any) -> None:
        self._store = store
        self._declarations = declarations
        self._sender = sender
        self._log = log

    async def list(self, _: ListWebhooks) -> Webhooks:
        """Every webhook by name."""
        waiting, given_up = await self._store.waiting(), await self._store.given_up()
        declared = sorted((await self._declarations.read()).webhooks, key=lambda each: each.name)
        return Webhooks(
            items=tuple(
                WebhookView(
                    webhook=each,
                    pending=waiting[each.name].pending if each.name in waiting else 0,
                    oldest=waiting[each.name].oldest if each.name in waiting else None,
                    given_up=given_up.get(each.name, 0),
                )
                for each in declared
            )
        )

    async def deliveries(self, command: ListDeliveries) -> Deliveries:
        """A page, newest first; raises `invalid` for an `after` that no page gave."""
        rows = await self._store.page(command.webhook, command.state, _place(command.after), command.limit + 1)
        items = tuple(
            DeliveryView(
                **{**dict(row), "next_at": row["next_at"] if row["state"] == "pending" else None},
                webhook_id=message_id(row["event_id"]),
            )
            for row in rows[: command.limit]
        )
        more = len(rows) > command.limit
        return Deliveries(items=items, next=_after(items[-1]) if more else None)

    async def repeat(self, command: RepeatDeliveries) -> Repeated:
        """Raises `not_found` where nothing of that webhook, or not this event, was given up."""
        at = now()
        count = await self._store.repeat(command.webhook, command.event_id, at, at + GIVE_UP_AFTER)
        if not count:
            what = "nothing" if command.event_id is None else f"no event `{command.event_id}`"
            raise CountersignError(
                f"{what} was given up for webhook `{command.webhook}`; `countersign webhooks deliveries` shows",
                code="not_found",
            )
        self._log.info("what was given up is posted again", webhook=command.webhook, many=count, by=command.by)
        self._sender.wake()
        return Repeated(count=count)


def _after(view: DeliveryView) -> str:
    return f"{rfc3339(view.created_at)}~{view.webhook}~{view.event_id}"


def _place(after: str | None) -> Place | None:
    if after is None:
        return None
    time, _, rest = after.partition("~")
    webhook, _, event_id = rest.partition("~")
    try:
        return Place(_TIME.validate_python(time), webhook, event_id)
    except ValidationError:
        raise CountersignError("`after` is what a page gave as `next`", code="invalid") from None
