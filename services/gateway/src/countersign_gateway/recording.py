"""Proven afterwards, whatever the bus lost: the end of every action is on record, or the action is driven again.

An outcome reaches the gateway and audit by the same stream. If the stream is lost between the two (its store wiped, or
cut back by a loss of power), the caller has its answer and the ledger has no end. So some time after actions ended,
audit is asked for their ends; what it does not have is sent again by the sweeper, every service repeats its stored
answer, and audit records what it missed. It costs one query here and one in audit for hundreds of actions.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from prometheus_client import Gauge

from countersign_chassis import Bus
from countersign_contracts.commands import ConfirmOnRecord, Receipt
from countersign_contracts.errors import Unavailable
from countersign_contracts.model import now

from .ended_rows import Ended, EndedRows
from .settings import Settings

_AT_ONCE = 700


class Recording:
    """One loop; several gateways may run it at once, and do the same work twice."""

    def __init__(self, settings: Settings, rows: EndedRows, bus: Bus, missing: Gauge, log: Any) -> None:
        self._settings = settings
        self._rows = rows
        self._bus = bus
        self._missing = missing
        self._log = log

    async def run(self) -> None:
        """Look after what ended, for ever."""
        while True:
            try:
                more = await self.look()
            except Unavailable as error:  # audit is away: what is not asked for now is asked for later
                self._log.debug("ends not looked up", reason=error.detail)
                more = False
            if not more:
                await asyncio.sleep(self._settings.on_record_after_s / 10)

    async def look(self) -> bool:
        """Ask for what ended lately, and again for what was missing; whether there is more to ask for at once."""
        await self._look_again()
        until = now() - timedelta(seconds=self._settings.on_record_after_s)
        ended = await self._rows.ended_until(until, _AT_ONCE)
        missing = await self._not_on_record(ended)
        if missing:
            self._log.warning("ends that audit does not have are sent again", count=len(missing))
        await self._rows.note_recorded(missing, ended[-1].at if len(ended) >= _AT_ONCE else until)
        return len(ended) >= _AT_ONCE

    async def _look_again(self) -> None:
        unproven = await self._rows.unproven(_AT_ONCE)
        missing = set(await self._not_on_record(unproven))
        await self._rows.prove([end.request_id for end in unproven if end.request_id not in missing])
        self._missing.set(len(missing))

    async def _not_on_record(self, ended: list[Ended]) -> list[str]:
        missing: list[str] = []
        for start in range(0, len(ended), _AT_ONCE):
            part = ended[start : start + _AT_ONCE]
            receipt: Receipt = await self._bus.ask(ConfirmOnRecord(event_ids=tuple(e.event_id for e in part), wait_s=0))
            recorded = frozenset(receipt.event_ids)
            missing += [e.request_id for e in part if e.event_id not in recorded]
        return missing
