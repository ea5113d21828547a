"""Takes what agents tell of their work from stream TELEMETRY, in batches: shed, checked, kept once, counted.

Agents are not trusted, and nobody waits for an answer here: what is wrong with a message is counted, told in the log
(once a minute for each agent), and the message is done with; it holds up no other and becomes no dead letter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from countersign_chassis import Failpoints, RawDelivery
from countersign_chassis.outages import OUTAGES
from countersign_contracts import subjects
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now
from countersign_contracts.telemetry import Kind, LogBatch, MetricReport, opened

from .agent_work import AgentWork
from .shedding import Budget, Hush
from .telemetry_days import TelemetryDays
from .telemetry_store import Key, TelemetryStore

_TOLD_EVERY_S = 60.0
_MOST_SAID = 300
#: The stream keeps no message for longer: an older time is its clock's mistake.
_OLDEST = timedelta(hours=2)


class TelemetryIntake:
    """Handles messages of both kinds."""

    def __init__(
        self,
        store: TelemetryStore,
        days: TelemetryDays,
        work: AgentWork,
        bytes_per_s: int,
        failpoints: Failpoints,
        log: Any,
    ) -> None:
        self._store = store
        self._days = days
        self._work = work
        self._failpoints = failpoints
        self._log = log
        # one for each kind: a flood of logs costs an agent none of its metrics
        self._budgets = {"logs": Budget(bytes_per_s), "metrics": Budget(bytes_per_s)}
        self._hush = Hush(_TOLD_EVERY_S)

    async def logs(self, batch: Sequence[RawDelivery]) -> None:
        """Messages of ``agents.*.logs``."""
        await self._take("logs", LogBatch, batch)

    async def metrics(self, batch: Sequence[RawDelivery]) -> None:
        """Messages of ``agents.*.metrics``."""
        await self._take("metrics", MetricReport, batch)

    async def _take(
        self, kind: Kind, model: type[LogBatch] | type[MetricReport], deliveries: Sequence[RawDelivery]
    ) -> None:
        said, waiting = await self._read(kind, model, deliveries)
        if not said:
            return
        try:
            await self._days.ensure({received_at.date() for received_at, _ in said.values()})
            kept = await self._store.keep(kind, said)
        except asyncpg.CheckViolationError:
            self._days.doubt()  # a partition that was there is gone: made anew when the message is tried again
            raise
        except OUTAGES as error:
            self._log.warning("telemetry not kept; trying again", kind=kind, messages=len(said), error=repr(error))
            for delivery in waiting:
                await delivery.nak()
            return
        for key, (_, batch) in said.items():
            if key in kept.new:
                self._work.became(kind, "kept")
                self._work.kept(batch)
            elif key in kept.unknown:
                self._drop(kind, key[0], "unknown_agent", "no such agent is registered")
            else:
                self._work.became(kind, "repeated")
        await self._failpoints.hit("registry.after_keep_before_ack")

    async def _read(
        self, kind: Kind, model: type[LogBatch] | type[MetricReport], deliveries: Sequence[RawDelivery]
    ) -> tuple[dict[Key, tuple[datetime, LogBatch | MetricReport]], list[RawDelivery]]:
        """What is to be kept, and what brought it; the rest is dropped and counted."""
        said: dict[Key, tuple[datetime, LogBatch | MetricReport]] = {}
        waiting: list[RawDelivery] = []
        for delivery in deliveries:
            agent_id = subjects.agent_of(delivery.subject)
            if not self._within(kind, agent_id, delivery):
                self._drop(
                    kind, agent_id, "shed", "more than is taken of one agent (COUNTERSIGN_TELEMETRY_BYTES_PER_S)"
                )
                continue
            received_at = _received(delivery.stored_at, now())
            try:
                batch = opened(model, delivery.body, received_at)
            except CountersignError as error:
                self._drop(kind, agent_id, error.code, error.detail)
                continue
            if (agent_id, batch.batch) in said:
                self._work.became(kind, "repeated")
                continue
            said[agent_id, batch.batch] = received_at, batch
            waiting.append(delivery)
            await asyncio.sleep(0)  # reading a large one takes milliseconds, and others are to be answered
        return said, waiting

    def _within(self, kind: Kind, agent_id: str, delivery: RawDelivery) -> bool:
        """What comes again was counted when it came first."""
        return delivery.tries > 1 or self._budgets[kind].take(agent_id, len(delivery.body), delivery.time / 1e9)

    def _drop(self, kind: Kind, agent_id: str, result: str, why: str) -> None:
        self._work.became(kind, result)
        swallowed = self._hush.swallowed(f"{agent_id} {kind}", now().timestamp())
        if swallowed is not None:
            self._log.info(
                "telemetry dropped",
                agent=agent_id,
                kind=kind,
                reason=why[:_MOST_SAID],
                dropped_since_last_said=swallowed,
            )


def _received(stored_at: datetime, at: datetime) -> datetime:
    """When the stream had it, by its clock where that can be."""
    return stored_at if at - _OLDEST <= stored_at <= at else at
