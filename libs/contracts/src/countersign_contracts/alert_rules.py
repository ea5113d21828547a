"""Alert rules: what is worth telling people of an agent, of which agents, and where it is told."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from .approval_rules import RuleName
from .fleet import AgentPhase, AgentType
from .ids import AgentId, Env
from .model import Frozen
from .telemetry import MEASURED

Severity = Literal["info", "warning", "critical"]
#: From the least to the most serious.
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
#: What is one member for another: failed of all events, CPU seconds a second (of one core), events a second, seconds an
#: event. Over several reports the mean is that of their sums.
RATIOS = ("error_share", "cpu_share", "events_per_second", "processing_mean_s")
#: Those that need events to say anything.
OF_EVENTS = ("error_share", "processing_mean_s")
#: Before the name of one of the agent's own metrics.
OWN = "values."
_OWN_METRIC = re.compile(r"values\.[a-z][a-z0-9_.]{0,62}")

Aggregate = Literal["mean", "max", "sum", "last"]
SeriousLevel = Literal["warning", "error", "critical"]


def _metric(name: str) -> str:
    if name in MEASURED or name in RATIOS or _OWN_METRIC.fullmatch(name):
        return name
    known = ", ".join((*RATIOS, *MEASURED))
    raise ValueError(f"`{name}` is no metric; there are {known}, and `values.<name>` for the agent's own")


MetricName = Annotated[str, AfterValidator(_metric)]
#: As owners give it: any text that can be typed.
TeamName = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,128}$")]
Window = Annotated[int, Field(ge=10, le=3600)]
Bound = Annotated[float, Field(allow_inf_nan=False)]
#: Where alerts are told: `slack` in the channel of the agent's team; `webhook` to every webhook that asks for alerts,
#: `webhook:<name>` to that one.
Route = Annotated[str, StringConstraints(pattern=r"^(slack|webhook|webhook:[a-z][a-z0-9_-]{0,62})$")]


class AlertCondition(Frozen):
    """One thing that an agent's metrics, its log, its phase or its silence can show.

    Exactly one of ``metric``, ``logs``, ``phase`` and ``silent_s``; the other members belong to the first two.
    """

    metric: MetricName | None = None
    aggregate: Aggregate | None = Field(default=None, description="of a metric's reports within `window_s`; mean")
    logs: SeriousLevel | None = Field(
        default=None, description="the number of log records of this level and above, within `window_s`"
    )
    window_s: Window | None = Field(default=None, description="how far back is looked; 300")
    above: Bound | None = None
    below: Bound | None = None
    min_events: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="of error_share and processing_mean_s: with fewer events it is none",
    )
    phase: tuple[AgentPhase, ...] | None = None
    silent_s: int | None = Field(
        default=None,
        ge=10,
        le=86_400,
        description="no heartbeat for so long, of an agent that did not say that it stops",
    )

    @property
    def kind(self) -> Literal["metric", "logs", "phase", "silence"]:
        """What it is about."""
        if self.metric is not None:
            return "metric"
        if self.logs is not None:
            return "logs"
        return "phase" if self.phase is not None else "silence"

    @property
    def window(self) -> int:
        """How far back is looked, in seconds."""
        return self.window_s or 300

    @model_validator(mode="after")
    def _one_thing(self) -> AlertCondition:
        about = [name for name in ("metric", "logs", "phase", "silent_s") if getattr(self, name) is not None]
        if len(about) != 1:
            found = " and ".join(about) or "nothing"
            raise ValueError(f"a condition is about one of metric, logs, phase and silent_s, not {found}")
        if self.phase == ():
            raise ValueError("phase names none; e.g. [failed]")
        counted = self.kind in ("metric", "logs")
        for name in ("above", "below", "window_s", "aggregate", "min_events"):
            if getattr(self, name) is not None and not counted:
                raise ValueError(f"`{name}` has no meaning for {about[0]}")
        if counted and (self.above is None) == (self.below is None):
            raise ValueError(f"{about[0]} needs a bound: `above` or `below`")
        if self.kind == "logs" and (self.above is None or self.aggregate is not None or self.min_events is not None):
            raise ValueError("log records are counted: `above` is all that can be said of their number")
        if self.metric in RATIOS and self.aggregate == "sum":
            raise ValueError(f"{self.metric} is a ratio, which cannot be summed; mean, max or last")
        if self.min_events is not None and self.metric not in OF_EVENTS:
            raise ValueError(f"`min_events` is for {' and '.join(OF_EVENTS)}")
        return self


class AgentSelector(Frozen):
    """Which agents; what is not given holds for every agent. Revoked agents are never meant."""

    agents: tuple[AgentId, ...] = Field(default=(), max_length=1000)
    types: tuple[AgentType, ...] = Field(default=(), max_length=100)
    teams: tuple[TeamName, ...] = Field(default=(), max_length=100)
    environments: tuple[Env, ...] = Field(default=(), max_length=100, description="one of the agent's is enough")


class AlertRule(Frozen):
    """When an agent is worth an alert: raised once when the condition has held for ``for_s``, resolved once when it has
    not held for ``clear_for_s``."""

    kind: Literal["alert_rule"] = "alert_rule"
    name: RuleName
    description: Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=2000)] = Field(
        default="", description="what to do about it, for who gets the alert"
    )
    enabled: bool = Field(default=True, description="false: nothing is raised, and what is open is resolved")
    severity: Severity = "warning"
    when: AlertCondition
    select: AgentSelector = AgentSelector()
    for_s: int = Field(default=60, ge=0, le=86_400)
    clear_for_s: int = Field(default=60, ge=0, le=86_400)
    routes: tuple[Route, ...] = Field(default=(), max_length=16)
