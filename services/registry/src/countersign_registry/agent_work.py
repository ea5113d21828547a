"""What all agents together tell of their work, as metrics: bounded labels only, never an agent's name.

Each batch counts once, by whichever registry kept it: add the registries up. What is measured of the fleet as it is now
(who reports, how much memory) every registry reads from the tables, and tells the same.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from datetime import timedelta

from countersign_chassis import Database, Metrics
from countersign_contracts.model import now
from countersign_contracts.telemetry import LEVELS, Kind, LogBatch, MetricReport

#: An agent that reported within this time counts with what it said last.
LATELY = timedelta(minutes=5)
#: What becomes of a batch.
RESULTS = ("kept", "repeated", "shed", "too_large", "malformed", "invalid", "unknown_agent")
_EVERY_S = 15.0

_NOW = """
SELECT count(*) AS agents, coalesce(sum(memory_bytes), 0)::float8 AS memory_bytes FROM (
    SELECT DISTINCT ON (agent_id) memory_bytes FROM agent_metrics WHERE received_at > $1
    ORDER BY agent_id, at DESC) latest
"""


class AgentWork:
    """Counts batches that were kept, and those that were not."""

    def __init__(self, metrics: Metrics, db: Database) -> None:
        self._db = db
        self._batches = metrics.counter(
            "countersign_telemetry_batches",
            "Messages of agents with logs and metrics, by what became of them; shed: beyond the agent's bound",
            ["kind", "result"],
        )
        self._records = metrics.counter("countersign_agent_log_records", "Log records of agents kept", ["level"])
        self._events = metrics.counter("countersign_agent_events", "Events that agents say they processed", ["result"])
        self._processing = metrics.counter(
            "countersign_agent_processing_seconds", "Time that agents say they spent on these events"
        )
        self._cpu = metrics.counter("countersign_agent_cpu_seconds", "CPU time that agents' processes used")
        self._disk = metrics.counter("countersign_agent_disk_bytes", "Bytes on disk, by direction", ["direction"])
        self._network = metrics.counter(
            "countersign_agent_network_bytes", "Bytes over the network, by direction", ["direction"]
        )
        self._memory = metrics.gauge(
            "countersign_agent_memory_bytes", "Resident memory of the agents that reported within 5 minutes"
        )
        self._reporting = metrics.gauge("countersign_agents_reporting", "Agents that sent metrics within 5 minutes")
        for kind in ("logs", "metrics"):
            for result in RESULTS:
                self._batches.labels(kind, result)  # shown from now on, with nothing counted yet
        for level in LEVELS:
            self._records.labels(level)

    def became(self, kind: Kind, result: str) -> None:
        """One batch was, or was not, taken: one of :data:`RESULTS`."""
        self._batches.labels(kind, result).inc()

    def kept(self, batch: LogBatch | MetricReport) -> None:
        """One batch was kept."""
        if isinstance(batch, LogBatch):
            for level, count in Tally(record.level for record in batch.records).items():
                self._records.labels(level).inc(count)
            return
        self._events.labels("succeeded").inc(batch.events_succeeded)
        self._events.labels("failed").inc(batch.events_failed)
        self._processing.inc(batch.processing_s)
        self._cpu.inc(batch.cpu_s or 0)
        self._disk.labels("read").inc(batch.disk_read_bytes or 0)
        self._disk.labels("written").inc(batch.disk_written_bytes or 0)
        self._network.labels("received").inc(batch.network_received_bytes or 0)
        self._network.labels("sent").inc(batch.network_sent_bytes or 0)

    async def run(self) -> None:
        """Look at the fleet as it is, for ever."""
        while True:
            row = await self._db.pool.fetchrow(_NOW, now() - LATELY)
            if row is not None:
                self._reporting.set(row["agents"])
                self._memory.set(row["memory_bytes"])
            await asyncio.sleep(_EVERY_S)
