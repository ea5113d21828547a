"""Answers what people ask of agents' logs, metrics and health."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import asyncpg
import orjson

from countersign_contracts.model import now
from countersign_contracts.telemetry import (
    LEVELS,
    MOST,
    AgentHealth,
    LogPage,
    MetricsPage,
    MetricsSummary,
    ReadHealth,
    ReadLogs,
    ReadMetrics,
    StoredLog,
    StoredMetrics,
)

from . import lifecycle
from .health import troubles
from .heartbeats import Heartbeats
from .lifecycle import Agent
from .store import Store
from .telemetry_pages import BEGINNING, END, Place, Sought, TelemetryPages, place_of
from .telemetry_store import REPORT_COLUMNS, fields_of

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
        items = tuple(_log(row) for row in rows[: command.limit])
        count = _fitting(items)
        if count < len(rows):
            got_to = _place(rows[count - 1])
        return LogPage(items=items[:count], next=None if got_to is None else str(got_to))

    async def metrics(self, command: ReadMetrics) -> MetricsPage:
        """A page of an agent's reports, and their sums. Raises `not_found`, `invalid`."""
        before = place_of(command.before)
        await self._known(command.agent_id)
        until = command.until or now()
        since = command.since or max(until, BEGINNING + _HOUR) - _HOUR
        rows = await self._pages.reports(command.agent_id, since, until, before, command.limit + 1)
        items = tuple(_report(row) for row in rows[: command.limit])
        count = _fitting(items)
        return MetricsPage(
            items=items[:count],
            summary=await self._summary(command.agent_id, since, until),
            next=str(Place(items[count - 1].at, items[count - 1].batch)) if count < len(rows) else None,
        )

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


def _fitting(items: Sequence[StoredLog] | Sequence[StoredMetrics]) -> int:
    """How many fit into one message, at least one if there is any."""
    size = 0
    for count, item in enumerate(items):
        size += len(item.to_bytes()) + 1
        if count and size > PAGE_BYTES:
            return count
    return len(items)


def _place(row: asyncpg.Record) -> Place:
    return Place(row["at"], row["batch"], row["place"])


def _log(row: asyncpg.Record) -> StoredLog:
    return StoredLog(
        id=f"{row['batch']}.{row['place']}",
        at=row["at"],
        received_at=row["received_at"],
        level=LEVELS[row["severity"]],
        text=row["text"],
        logger=row["logger"],
        fields=orjson.loads(row["fields"] or "{}"),
        request_id=None if row["request_id"] is None else str(row["request_id"]),
    )


def _report(row: asyncpg.Record) -> StoredMetrics:
    return StoredMetrics(
        **fields_of(row, REPORT_COLUMNS), values=orjson.loads(row["own"] or "{}"), received_at=row["received_at"]
    )
