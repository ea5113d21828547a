"""What is posted of an event, and to which webhooks: everything but arguments, and what people or templates made of
them. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from countersign_contracts.alerts import AlertEvent
from countersign_contracts.approval_rules import WEBHOOK_EVENTS, Webhook
from countersign_contracts.approvals import ApprovalEvent

#: Members that hold arguments or text made of them, wherever they stand: an amendment's, a voter's changes, and the
#: resource of a standing offer.
_WITHHELD = frozenset({"args", "changes", "resource"})


#: What webhooks can be told of.
Posted = ApprovalEvent | AlertEvent


def is_for(webhook: Webhook, event: Posted) -> bool:
    """Whether the webhook asks for this kind of event; and of an alert, whether its rule has a route there."""
    if isinstance(event, AlertEvent):
        routed = {"webhook", f"webhook:{webhook.name}"} & set(event.alert.routes)
        return bool(routed) and event.spec.name in webhook.events
    return event.spec.name in WEBHOOK_EVENTS and event.spec.name in webhook.events


def body_of(event: Posted, event_id: str, time: str) -> bytes:
    """The JSON body; ``time`` is when it happened. Who needs the arguments reads the approval, as themselves."""
    return orjson.dumps(
        {
            "type": f"{event.spec.subject.split('.')[0]}.{event.spec.name}",
            "id": event_id,
            "timestamp": time,
            "data": _shown(event.model_dump(mode="json", exclude_none=True)),
        }
    )


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shown(each) for key, each in value.items() if key not in _WITHHELD}
    if isinstance(value, list):
        return [_shown(each) for each in value]
    return value
