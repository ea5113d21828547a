"""Re-driving: accepted actions that stopped moving are sent again, exactly as they were, until they end."""

from __future__ import annotations

import asyncio
from typing import Any

from prometheus_client import Counter

from countersign_chassis import Bus
from countersign_contracts.actions import ActionRequested
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now

from .cancellation import Cancellation
from .settings import Settings
from .store import Due, Store

_LIMIT = 200


class Sweeper:
    """One loop; several gateways may run it at once, each takes other rows."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        bus: Bus,
        cancellation: Cancellation,
        redriven: Counter,
        log: Any,
    ) -> None:
        self._settings = settings
        self._store = store
        self._bus = bus
        self._cancellation = cancellation
        self._redriven = redriven
        self._log = log

    async def run(self) -> None:
        """Sweep once a second for ever."""
        while True:
            taken = await self.sweep()
            if taken < _LIMIT:
                await asyncio.sleep(1)

    async def sweep(self) -> int:
        """Send again what is due; returns how many that were."""
        due = await self._store.due(now(), _LIMIT, self._settings.redrive_after_s, self._settings.redrive_max_s)
        again: list[Due] = []
        for item in due:
            if item.cancel_by is None:
                again.append(item)
                continue
            try:
                await self._cancellation.finish(item.ref, item.cancel_by, item.cancel_reason)
            except CountersignError as error:
                self._log.warning("cancellation still open", request=item.ref.request_id, reason=error.detail)
                if error.code == "already_final":
                    again.append(item)
        for item in again:
            self._redriven.inc()
            # the event keeps its id; only the stream's deduplication must not drop the repeat
            await self._bus.publish_sealed(
                [
                    (
                        ActionRequested.spec.subject.format(token=item.ref.agent_id),
                        ActionRequested.spec.stream,
                        item.envelope,
                    )
                ],
                attempt=str(item.drives),
            )
        return len(due)
