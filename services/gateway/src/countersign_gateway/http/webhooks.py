"""Webhooks: how they fare, what was given up, and that it be tried again. What the approvals service does."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from countersign_contracts.approval_rules import RuleName
from countersign_contracts.model import Frozen
from countersign_contracts.webhook_commands import (
    Deliveries,
    DeliveryState,
    ListDeliveries,
    ListWebhooks,
    RepeatDeliveries,
    Repeated,
    Webhooks,
)

from ..credentials import PersonIdentity
from ..submission import Words
from .context import Needs, PartsOf, Reader
from .problems import RESPONSES

router = APIRouter(prefix="/api/v1", responses=RESPONSES)


class RepeatBody(Frozen):
    """What to post again."""

    event_id: Words | None = None


@router.get("/webhooks", response_model=Webhooks, tags=["webhooks"])
async def webhooks(_: Reader, parts: PartsOf) -> Any:
    """Webhooks, what waits for them, and what was given up."""
    return await parts.bus.ask(ListWebhooks())


@router.get("/webhooks/deliveries", response_model=Deliveries, tags=["webhooks"])
async def deliveries(
    _: Reader,
    parts: PartsOf,
    webhook: RuleName | None = None,
    state: DeliveryState | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Words | None = None,
) -> Any:
    """What was posted, is to be posted, or was given up; newest first."""
    return await parts.bus.ask(ListDeliveries(webhook=webhook, state=state, limit=limit, after=after))


@router.post("/webhooks/{name}/repeat", response_model=Repeated, tags=["webhooks"])
async def repeat_deliveries(
    name: RuleName, body: RepeatBody, person: Annotated[PersonIdentity, Depends(Needs("declare"))], parts: PartsOf
) -> Any:
    """Post again what was given up: all of it, or one event."""
    return await parts.bus.ask(RepeatDeliveries(webhook=name, event_id=body.event_id, by=person.name))
