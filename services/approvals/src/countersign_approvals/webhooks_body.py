"""What is posted of an event: everything but arguments, and what people or templates made of them. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from countersign_contracts.approval_rules import WEBHOOK_EVENTS
from countersign_contracts.approvals import ApprovalEvent

#: Members that hold arguments or text made of them, wherever they stand: an amendment's, a voter's changes, and the
#: resource of a standing offer.
_WITHHELD = frozenset({"args", "changes", "resource"})


def posted(event: ApprovalEvent) -> bool:
    """Whether webhooks can ask for this kind of event."""
    return event.spec.name in WEBHOOK_EVENTS


def body_of(event: ApprovalEvent, event_id: str, time: str) -> bytes:
    """The JSON body; ``time`` is when it happened. Who needs the arguments reads the approval, as themselves."""
    return orjson.dumps(
        {
            "type": f"approvals.{event.spec.name}",
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
