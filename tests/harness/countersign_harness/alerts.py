"""An alert that comes and goes, as the registry tells of it: without a rule, and the time that one takes."""

from __future__ import annotations

from countersign_contracts.alerts import ALERT_EVENTS, Alert
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now

from .stack import Stack


async def tell_of_an_alert(stack: Stack, agent_id: str = "worker-1") -> None:
    """Publish, with the registry's key, that one was raised, acknowledged and resolved."""
    at = now()
    alert = Alert(
        alert_id=prefixed("alt"),
        rule="fails-often",
        rule_version=1,
        severity="warning",
        agent_id=agent_id,
        owner_team="ops",
        summary="half of its events failed",
        since=at,
        raised_at=at,
        state="open",
        revision=1,
    )
    told = [kind(agent_id=agent_id, event=alert.alert_id, by="registry", at=at, alert=alert) for kind in ALERT_EVENTS]
    bus = await stack.bus("registry")
    await bus.publish_all([(event, None) for event in told])
