"""What agents tell of their work: logs and metrics, kept by stream ``TELEMETRY``; and what people ask of it.

Whose it is stands in the subject (``agents.<its id>.logs``, ``agents.<its id>.metrics``), which nats-server has
checked, never in the body. A batch has an id: one that comes again within two hours is kept once. (No ``Nats-Msg-Id``:
the stream knows those across all agents, so that one agent's could hide another's message.)
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, ClassVar, Literal, TypeVar, get_args

from pydantic import AfterValidator, Field, StringConstraints

from .command import Command, Rpc
from .errors import CountersignError
from .fleet import AgentPhase, AgentStatus
from .ids import AgentId, RequestId
from .model import Frozen, Time, rfc3339

Kind = Literal["logs", "metrics"]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]
#: From the least to the most serious.
LEVELS: tuple[LogLevel, ...] = get_args(LogLevel)
#: Most that one message holds.
MOST_RECORDS = 500
MOST_FIELDS = 32
MOST_VALUES = 32
#: Bytes of one message: what an agent's connection may carry.
MOST_BYTES = 256 * 1024
#: An agent's clock may be this far ahead of ours, at most; what claims to be later is refused.
MOST_AHEAD = timedelta(minutes=5)

#: The largest number there is room for: every number up to it is exact in JSON.
MOST = 2**53

BatchId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
#: Names of fields and of an agent's own metrics: data of the agent's, never a label in Prometheus.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.]{0,62}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=-MOST, le=MOST)]
Count = Annotated[int, Field(ge=0, le=MOST)]
Amount = Annotated[float, Field(ge=0, le=MOST, allow_inf_nan=False)]


def _storable(text: str) -> str:
    return text.replace("\x00", "\ufffd")


#: PostgreSQL keeps no NUL: it becomes the replacement character, for whoever reads it live as well.
Text = Annotated[str, AfterValidator(_storable)]


# --- what an agent sends ------------------------------------------------------------------------------


class LogRecord(Frozen):
    """One line of an agent's log. ``fields`` is its context; no secrets: agents leave them out."""

    at: Time
    level: LogLevel = "info"
    text: Text = Field(min_length=1, max_length=8192)
    logger: Text | None = Field(default=None, max_length=128)
    fields: dict[Name, Text | bool | Whole | Number | None] = Field(default={}, max_length=MOST_FIELDS)
    request_id: RequestId | None = Field(default=None, description="the action it is about")


class Telemetry(Frozen):
    """What an agent publishes, of either kind."""

    batch: BatchId

    def latest(self) -> datetime:
        """The latest time that it speaks of."""
        raise NotImplementedError


class LogBatch(Telemetry):
    """What an agent publishes on ``agents.<its id>.logs``."""

    records: tuple[LogRecord, ...] = Field(min_length=1, max_length=MOST_RECORDS)

    def latest(self) -> datetime:
        return max(record.at for record in self.records)


class MetricReport(Telemetry):
    """What an agent publishes on ``agents.<its id>.metrics``: what happened in the last ``interval_s`` seconds.

    Differences, no totals: a report that is lost takes only its own interval with it, and sums need no memory.
    """

    at: Time = Field(description="the interval's end")
    interval_s: float = Field(gt=0, le=86_400, allow_inf_nan=False)
    events_succeeded: Count = 0
    events_failed: Count = 0
    processing_s: Amount = Field(default=0.0, description="spent on these events, together")
    cpu_s: Amount | None = Field(default=None, description="of the process")
    memory_bytes: Count | None = Field(default=None, description="resident, at the end")
    disk_read_bytes: Count | None = None
    disk_written_bytes: Count | None = None
    network_received_bytes: Count | None = None
    network_sent_bytes: Count | None = None
    values: dict[Name, Number] = Field(default={}, max_length=MOST_VALUES, description="the agent's own metrics")

    def latest(self) -> datetime:
        return self.at


#: What a report measures, each by itself: its members but for whose and when it is, and the agent's own metrics.
MEASURED = tuple(name for name in MetricReport.model_fields if name not in ("batch", "at", "interval_s", "values"))

B = TypeVar("B", bound=Telemetry)


def opened(kind: type[B], body: bytes, received_at: datetime) -> B:
    """What an agent sent, checked. Raises :class:`CountersignError`: `too_large`, `malformed`, or `invalid` for a time
    further ahead of ours than clocks may be."""
    if len(body) > MOST_BYTES:
        raise CountersignError(f"the message has {len(body)} bytes; at most {MOST_BYTES} are taken", code="too_large")
    batch = kind.from_bytes(body)
    latest = batch.latest()
    if latest > received_at + MOST_AHEAD:
        raise CountersignError(
            f"it is of {rfc3339(latest)}, and came at {rfc3339(received_at)}: at most"
            f" {MOST_AHEAD.total_seconds():.0f} s ahead are taken; set the agent's clock",
            code="invalid",
        )
    return batch


# --- what people ask ----------------------------------------------------------------------------------


class StoredLog(LogRecord):
    """A record as it was kept. ``id`` is ``<batch>.<its place in the batch, from 0>``, as live readers see it too."""

    id: str
    received_at: Time


class LogPage(Frozen):
    """Newest first, by when the agent says that it was. A search that looked at many records and found few ends early:
    then ``next`` goes on from there, though ``items`` may be empty."""

    items: tuple[StoredLog, ...]
    next: str | None = Field(default=None, description="pass as `before` for what is older; none: there is no more")


class ReadLogs(Command):
    """An agent's log; ``level`` and above, ``text`` in any letter case, ``since`` to before ``until`` by the agent's
    clock. Raises `not_found`, and `invalid` for a ``before`` that is no page's."""

    rpc: ClassVar[Rpc] = Rpc("registry", "logs")
    reply: ClassVar[type[Frozen]] = LogPage
    agent_id: AgentId
    level: LogLevel | None = None
    text: str | None = Field(default=None, min_length=1, max_length=256)
    since: Time | None = None
    until: Time | None = None
    before: str | None = Field(default=None, max_length=256)
    limit: int = Field(default=100, ge=1, le=500)


class StoredMetrics(MetricReport):
    """A report as it was kept."""

    received_at: Time


class MetricsSummary(Frozen):
    """An agent's reports of some time, together; None where nothing was said of it."""

    reports: int = Field(ge=0)
    covered_s: float = Field(ge=0, description="the reports' intervals, together")
    events_succeeded: int = 0
    events_failed: int = 0
    error_share: float | None = Field(default=None, description="failed of all events, 0 to 1")
    events_per_second: float | None = None
    processing_mean_s: float | None = Field(default=None, description="per event")
    cpu_share: float | None = Field(default=None, description="of one core, 0 and up")
    memory_bytes: int | None = Field(default=None, description="the last that was said")
    disk_read_bytes: int | None = None
    disk_written_bytes: int | None = None
    network_received_bytes: int | None = None
    network_sent_bytes: int | None = None


class MetricsPage(Frozen):
    """Reports newest first; ``summary`` is of all between ``since`` and ``until``, whatever the page holds."""

    items: tuple[StoredMetrics, ...]
    summary: MetricsSummary
    next: str | None = Field(default=None, description="pass as `before` for what is older")


class ReadMetrics(Command):
    """An agent's metrics; ``since`` defaults to an hour before ``until``, which defaults to now."""

    rpc: ClassVar[Rpc] = Rpc("registry", "metrics")
    reply: ClassVar[type[Frozen]] = MetricsPage
    agent_id: AgentId
    since: Time | None = None
    until: Time | None = None
    before: str | None = Field(default=None, max_length=256)
    limit: int = Field(default=100, ge=1, le=500)


class AgentHealth(Frozen):
    """Whether an agent does well, and where it does not, why."""

    agent_id: AgentId
    healthy: bool
    reasons: tuple[str, ...] = Field(default=(), description="why it is not")
    status: AgentStatus
    phase: AgentPhase
    phase_since: Time
    last_seen_at: Time | None = None
    heartbeat_s: int
    said: dict[str, str | float] = Field(default={}, description="the last heartbeat: status, version, uptime_s, load")
    last_hour: MetricsSummary
    errors_last_hour: int = Field(ge=0, description="log records of level error and above")


class ReadHealth(Command):
    """An agent's health."""

    rpc: ClassVar[Rpc] = Rpc("registry", "health")
    reply: ClassVar[type[Frozen]] = AgentHealth
    agent_id: AgentId
