"""Whether an agent does well, and where it does not, why. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from countersign_contracts.fleet import AgentPhase, AgentStatus
from countersign_contracts.telemetry import MetricsSummary

#: What an agent's heartbeat says where all is well; nothing said is well too.
WELL = ("healthy", "ok")
#: So many of its events failing within the hour is no health; of fewer events than that, nothing follows.
MOST_FAILING = 0.5
FEWEST_EVENTS = 10


def troubles(
    *, status: AgentStatus, phase: AgentPhase, cause: str | None, said: Mapping[str, Any], hour: MetricsSummary
) -> tuple[str, ...]:
    """Why the agent is not well, the weightiest first; none if it is."""
    found: list[str] = []
    if status != "active":
        found.append(f"it is {status}, by order")
    match phase:
        case "registered":
            found.append("it was never heard of")
        case "stopped":
            found.append("it has stopped")
        case "failed":
            found.append(f"it has failed: {cause}" if cause else "it has failed")
        case "running" if (state := said.get("status", WELL[0])) not in WELL:
            found.append(f"its heartbeat says `{state}`")
    events = hour.events_succeeded + hour.events_failed
    if hour.error_share is not None and events >= FEWEST_EVENTS and hour.error_share >= MOST_FAILING:
        found.append(f"{hour.events_failed} of its {events} events of the last hour failed")
    return tuple(found)
