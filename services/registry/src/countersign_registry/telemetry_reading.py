"""Answers what people ask of agents' logs, metrics and health."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import asyncpg

from countersign_contracts.model import now
from countersign_contracts.telemetry import (
    MOST,
    AgentHealth,
    LogPage,
    MetricsPage,
    MetricsSummary,
    ReadHealth,
    ReadLogs,
    ReadMetrics,
)

from . import lifecycle
from .health import troubles
from .heartbeats import Heartbeats
from .lifecycle import Agent
from .listing import fitting
from .store import Store
from .telemetry_pages import BEGINNING, END, Place, Sought, TelemetryPages, place_of
from .telemetry_store import fields_of
from .telemetry_writing import WrittenLogs, WrittenMetrics, written_log, written_report

#: A page ends early where it would not fit into one message.
PAGE_BYTES = 700 * 1024
_HOUR = timedelta(hours=1)
_TRAFFIC = ("disk_read_bytes", "disk_written_bytes", "network_received_bytes", "network_sent_bytes")


class TelemetryReading:
    """Reads, never writes."""

    def __init__(self, store: Store, pages: TelemetryPages, heartbeats: Heartbeats) -> None:
        self._store = store
        self._pages = pages
        self._heartbeats = heartbeats

    async def logs(self, command: ReadLogs) -> LogPage:
        """A page of an agent's log. Raises `not_found`, `invalid`."""
        before = place_of(command.before)
        await self._known(command.agent_id)
        sought = Sought(command.agent_id, command.level, command.text, command.since or BEGINNING, command.until or END)
        rows, got_to = await self._pages.logs(sought, before, command.limit + 1)
        items = [written_log(row) for row in rows]
        count, more = fitting(items, command.limit, PAGE_BYTES)
        if more:
            last = rows[count - 1]
            got_to = Place(last["at"], last["batch"], last["place"])
        return WrittenLogs.of(items[:count], None if got_to is None else str(got_to))

    async def metrics(self, command: ReadMetrics) -> MetricsPage:
        """A page of an agent's reports, and their sums. Raises `not_found`, `invalid`."""
        before = place_of(command.before)
        await self._known(command.agent_id)
        until = command.until or now()
        since = command.since or max(until, BEGINNING + _HOUR) - _HOUR
        rows = await self._pages.reports(command.agent_id, since, until, before, command.limit + 1)
        items = [written_report(row) for row in rows]
        count, more = fitting(items, command.limit, PAGE_BYTES)
        got_to = str(Place(rows[count - 1]["at"], rows[count - 1]["batch"])) if more else None
        return WrittenMetrics.of(items[:count], got_to, await self._summary(command.agent_id, since, until))

    async def health(self, command: ReadHealth) -> AgentHealth:
        """An agent's health. Raises `not_found`."""
        agent = await self._known(command.agent_id)
        at = now()
        hour = await self._summary(command.agent_id, at - _HOUR, END)
        beat = self._heartbeats.latest(command.agent_id)
        last_seen, said = beat or (agent.last_seen, agent.heartbeat)
        reasons = troubles(
            status=agent.record.status, phase=agent.phase, cause=agent.phase_cause, said=said or {}, hour=hour
        )
        return AgentHealth(
            agent_id=command.agent_id,
            healthy=not reasons,
            reasons=reasons,
            status=agent.record.status,
            phase=agent.phase,
            phase_since=agent.phase_since or agent.created_at,
            last_seen_at=last_seen,
            heartbeat_s=agent.record.heartbeat_s,
            said=said or {},
            last_hour=hour,
            errors_last_hour=await self._pages.errors(command.agent_id, at - _HOUR),
        )

    async def _known(self, agent_id: str) -> Agent:
        agent = await self._store.find(agent_id, now())
        if agent is None:
            raise lifecycle.not_found(agent_id)
        return agent

    async def _summary(self, agent_id: str, since: datetime, until: datetime) -> MetricsSummary:
        row = await self._pages.summary(agent_id, since, until)
        return MetricsSummary(reports=0, covered_s=0) if row is None else summary_of(row)


def summary_of(row: asyncpg.Record) -> MetricsSummary:
    """Sums as people read them. What a report says is bounded; a sum is shown up to the same bound."""
    succeeded, failed = _bounded(row["events_succeeded"]), _bounded(row["events_failed"])
    events = succeeded + failed
    return MetricsSummary(
        reports=row["reports"],
        covered_s=row["covered_s"],
        events_succeeded=succeeded,
        events_failed=failed,
        error_share=failed / events if events else None,
        events_per_second=events / row["covered_s"] if row["covered_s"] else None,
        processing_mean_s=row["processing_s"] / events if events else None,
        cpu_share=None if row["cpu_s"] is None else row["cpu_s"] / row["cpu_covered_s"],
        memory_bytes=row["memory_bytes"],
        **{column: _bounded(value) for column, value in fields_of(row, _TRAFFIC).items()},
    )


def _bounded(total: Decimal) -> int:
    return min(int(total), MOST)
