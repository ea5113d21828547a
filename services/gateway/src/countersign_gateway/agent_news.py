"""What people are told live of an agent: what it said, or what became of it. Pure.

What an agent says is checked as the registry checks it; a record has the id that it is kept with.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from countersign_contracts.event import Event
from countersign_contracts.fleet import AgentPhaseChanged, AgentStatusChanged
from countersign_contracts.ids import AgentId
from countersign_contracts.model import Frozen, Time
from countersign_contracts.telemetry import LogBatch, MetricReport, StoredLog, StoredMetrics, opened

from .followers import event as sse


class AgentChange(Frozen):
    """From what to what, and why; ``by`` is who ordered it."""

    before: str
    now: str
    why: str
    by: str


class AgentNews(Frozen):
    """One thing that an agent said, or that became of it."""

    kind: Literal["log", "metrics", "phase", "status"]
    agent_id: AgentId
    at: Time
    log: StoredLog | None = Field(default=None, description="`received_at` is when this gateway heard it")
    metrics: StoredMetrics | None = None
    change: AgentChange | None = Field(default=None, description="of the agent's phase or status")


def news_of_logs(agent_id: str, body: bytes, at: datetime) -> list[AgentNews]:
    """A batch's records. Raises :class:`CountersignError` as :func:`opened`."""
    batch = opened(LogBatch, body, at)
    return [
        AgentNews.model_construct(
            kind="log",
            agent_id=agent_id,
            at=at,
            log=StoredLog.model_construct(**dict(record), id=f"{batch.batch}.{place}", received_at=at),
        )
        for place, record in enumerate(batch.records)
    ]


def news_of_metrics(agent_id: str, body: bytes, at: datetime) -> list[AgentNews]:
    """The report, as :func:`news_of_logs`."""
    kept = StoredMetrics.model_construct(**dict(opened(MetricReport, body, at)), received_at=at)
    return [AgentNews.model_construct(kind="metrics", agent_id=agent_id, at=at, metrics=kept)]


def news_of_change(event: Event) -> AgentNews | None:
    """What became of an agent; None for what changes neither its phase nor its status."""
    match event:
        case AgentPhaseChanged():
            change = AgentChange(before=event.before, now=event.phase, why=event.cause, by=event.by)
            return AgentNews(kind="phase", agent_id=event.agent_id, at=event.at, change=change)
        case AgentStatusChanged():
            change = AgentChange(before=event.before, now=event.status, why=event.reason, by=event.by)
            return AgentNews(kind="status", agent_id=event.agent_id, at=event.at, change=change)
    return None


def batch_of(news: AgentNews) -> str:
    """The id of the batch or report that it is from."""
    if news.log is not None:
        return news.log.id.rpartition(".")[0]
    return "" if news.metrics is None else news.metrics.batch


def on_the_wire(news: AgentNews) -> tuple[bytes, bytes]:
    """As a server-sent event, and bare. A record's id is checked to have no line feeds by its batch's model."""
    body = news.to_bytes()
    return sse(news.kind, body, None if news.log is None else news.log.id), body
