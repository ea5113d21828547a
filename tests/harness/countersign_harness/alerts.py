"""Alerts as the registry tells of them: without a rule, and the time that one takes."""

from __future__ import annotations

from typing import Any

from countersign_contracts.alerts import ALERT_EVENTS, Alert
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now

from .stack import Stack


def an_alert(**more: Any) -> Alert:
    """An open alert, about worker-1 unless said otherwise."""
    at = now()
    given: dict[str, Any] = {
        "alert_id": prefixed("alt"),
        "rule": "fails-often",
        "rule_version": 1,
        "severity": "warning",
        "agent_id": "worker-1",
        "owner_team": "ops",
        "summary": "half of its events failed",
        "since": at,
        "raised_at": at,
        "state": "open",
        "revision": 1,
    }
    return Alert(**given | more)


async def tell_of_an_alert(stack: Stack, agent_id: str = "worker-1") -> None:
    """Publish, with the registry's key, that one was raised, acknowledged and resolved."""
    alert = an_alert(agent_id=agent_id)
    about: dict[str, Any] = {
        "agent_id": agent_id,
        "event": alert.alert_id,
        "by": "registry",
        "at": alert.since,
        "alert": alert,
    }
    told = [kind(**about) for kind in ALERT_EVENTS]
    bus = await stack.bus("registry")
    await bus.publish_all([(event, None) for event in told])
