"""Alerts about agents, and the rules that raise them. What the registry does."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from countersign_contracts.alert_rules import AlertRule, Severity
from countersign_contracts.alerts import (
    AcknowledgeAlert,
    Alert,
    AlertId,
    AlertRules,
    Alerts,
    AlertState,
    GetAlert,
    ListAlertRules,
    ListAlerts,
    RemoveAlertRule,
)
from countersign_contracts.approval_rules import RuleName
from countersign_contracts.ids import AgentId
from countersign_contracts.model import Frozen

from ..credentials import PersonIdentity
from ..submission import Words
from .context import Needs, Operator, PartsOf, Reader
from .problems import RESPONSES

router = APIRouter(prefix="/api/v1", responses=RESPONSES, tags=["alerts"])


class AcknowledgeBody(Frozen):
    """What whoever acknowledges has to say; it goes on record."""

    comment: Words = Field(default="", max_length=2000)


@router.get("/alerts", response_model=Alerts)
async def alerts(
    _: Reader,
    parts: PartsOf,
    state: AlertState | Literal["active"] | None = None,
    agent_id: AgentId | None = None,
    rule: RuleName | None = None,
    severity: Severity | None = None,
    before: AlertId | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Any:
    """Alerts, those raised last first. `active`: what is not resolved, whether acknowledged or not."""
    return await parts.bus.ask(
        ListAlerts(state=state, agent_id=agent_id, rule=rule, severity=severity, before=before, limit=limit)
    )


@router.get("/alerts/{alert_id}", response_model=Alert)
async def alert(alert_id: AlertId, _: Reader, parts: PartsOf) -> Any:
    """One alert. Resolved ones are kept for a while (90 days, unless it was set otherwise)."""
    return await parts.bus.ask(GetAlert(alert_id=alert_id))


@router.post("/alerts/{alert_id}/acknowledge", response_model=Alert)
async def acknowledge_alert(alert_id: AlertId, body: AcknowledgeBody, person: Operator, parts: PartsOf) -> Any:
    """Say that somebody has seen it. It stays active until it is resolved."""
    return await parts.bus.ask(AcknowledgeAlert(alert_id=alert_id, by=person.name, comment=body.comment))


@router.get("/alert-rules", response_model=AlertRules)
async def alert_rules(_: Reader, parts: PartsOf) -> Any:
    """The rules, and how many agents each of them finds."""
    return await parts.bus.ask(ListAlertRules())


@router.delete("/alert-rules/{name}", response_model=AlertRule)
async def remove_alert_rule(
    name: RuleName, person: Annotated[PersonIdentity, Depends(Needs("declare"))], parts: PartsOf
) -> Any:
    """Remove a rule. Its alerts are resolved with that reason, and stay in the history."""
    return await parts.bus.ask(RemoveAlertRule(name=name, by=person.name))
