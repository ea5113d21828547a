"""From events of alerts to rows: one message for each alert whose rule has a route to Slack, kept up to date.

The events say the whole alert, and its revision which of them is newer: nobody has to be asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import orjson

from countersign_chassis import Delivery
from countersign_contracts.alerts import AlertEvent
from countersign_contracts.model import now

from .alert_message import alert_message, alert_note, channel_of
from .store import Look, Store


class AlertIntake:
    """Handler of consumer ``slack-alerts``."""

    def __init__(self, store: Store, channels: Mapping[str, str], wake: Callable[[], None]) -> None:
        self._store = store
        self._channels = channels
        self._wake = wake

    async def alerts(self, batch: list[Delivery]) -> None:
        """What happened to alerts."""
        for event in (delivery.event for delivery in batch):
            if isinstance(event, AlertEvent) and "slack" in event.alert.routes:
                await self._show(event)
        self._wake()

    async def _show(self, event: AlertEvent) -> None:
        alert, at = event.alert, now()
        if not await self._store.newest(alert.alert_id, alert.revision, at):
            return  # what is shown, or will be, is newer
        content = orjson.dumps(alert_message(alert)).decode()
        note = alert_note(event)
        await self._store.show(
            alert.alert_id,
            Look(alert.revision, None),
            content,
            hashlib.sha256(content.encode()).hexdigest(),
            pending=alert.state != "resolved",
            channels=[channel_of(alert, self._channels)],
            notes=[] if note is None else [(event.event_id(), note)],
            at=at,
        )
