"""When an alert is raised and when it is resolved, of one rule and one agent, look by look. Pure.

``nothing → pending → active → nothing``: a condition must hold for the rule's ``for_s`` before it is raised, and not
hold for ``clear_for_s`` before it is resolved. Between two looks that lie too far apart nobody knows what was: both
times begin anew then.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from countersign_contracts.alert_rules import AgentSelector, AlertRule

#: Two looks at a rule are one watch if no more time lies between them, in seconds; or between so many looks.
GAP_S = 60
GAP_LOOKS = 3
#: A window is looked at so often while it passes, and no more often: the cost does not grow with its length.
LOOKS_A_WINDOW = 30


@dataclass(frozen=True, slots=True)
class Pending:
    """It holds since then, and is not raised yet."""

    since: datetime


@dataclass(frozen=True, slots=True)
class Active:
    """It was raised, and is not resolved. ``clearing_since``: since when it does not hold any more."""

    clearing_since: datetime | None = None


State = Pending | Active | None


@dataclass(frozen=True, slots=True)
class Step:
    """What follows a look."""

    state: State
    order: Literal["raise", "resolve"] | None = None
    since: datetime | None = None  # of what is raised: since when it holds


def step(state: State, holds: bool, rule: AlertRule, at: datetime, *, watched: bool) -> Step:
    """The state after a look at ``at``; ``watched``: the look before was not too long ago."""
    match state:
        case Active(clearing_since):
            if holds:
                return Step(Active())
            since = clearing_since if clearing_since is not None and watched else at
            if at - since >= timedelta(seconds=rule.clear_for_s):
                return Step(None, "resolve")
            return Step(Active(since))
        case _ if not holds:
            return Step(None)
        case _:
            since = state.since if state is not None and watched else at
            if at - since >= timedelta(seconds=rule.for_s):
                return Step(Active(), "raise", since)
            return Step(Pending(since))


@dataclass(frozen=True, slots=True)
class Described:
    """What a selector asks of an agent."""

    agent_id: str
    agent_type: str | None
    team: str
    environments: tuple[str, ...]
    status: str


def why_not(rule: AlertRule | None, agent: Described | None) -> str | None:
    """Why nobody is asked about the agent by the rule any more; None: it is watched."""
    if rule is None:
        return "the rule was removed"
    if not rule.enabled:
        return "the rule was disabled"
    if agent is None or agent.status == "revoked":
        return "the agent was revoked"
    return None if selects(rule.select, agent) else "the rule does not select the agent any more"


def selects(selector: AgentSelector, agent: Described) -> bool:
    """Whether the selector means the agent."""
    return (
        (not selector.agents or agent.agent_id in selector.agents)
        and (not selector.types or agent.agent_type in selector.types)
        and (not selector.teams or agent.team in selector.teams)
        and (not selector.environments or not set(selector.environments).isdisjoint(agent.environments))
    )


def every_s(rule: AlertRule, tick_s: float) -> float:
    """How often the rule is looked at, in seconds."""
    if rule.when.kind in ("metric", "logs"):
        return max(tick_s, rule.when.window / LOOKS_A_WINDOW)
    return tick_s


def is_due(rule: AlertRule, evaluated_at: datetime | None, at: datetime, tick_s: float) -> bool:
    """Whether it is time to look; a little early counts, so that a look is not put off by a whole tick."""
    return evaluated_at is None or (at - evaluated_at).total_seconds() >= every_s(rule, tick_s) - tick_s / 2


def is_watched(rule: AlertRule, evaluated_at: datetime | None, at: datetime, tick_s: float) -> bool:
    """Whether a look now goes on with the watch of before."""
    if evaluated_at is None:
        return False
    return (at - evaluated_at).total_seconds() <= max(GAP_S, GAP_LOOKS * every_s(rule, tick_s))


def summary_of(rule: AlertRule, value: float | None, detail: str | None) -> str:
    """What was found, for people. ``detail``: the phase."""
    when = rule.when
    match when.kind:
        case "phase":
            return f"it is {detail}"
        case "silence":
            return f"no heartbeat for {value or 0:.0f} s, more than {when.silent_s} s"
        case kind:
            bound = f"above {when.above:g}" if when.above is not None else f"below {when.below:g}"
            if kind == "logs":
                return f"{value or 0:.0f} log records of level {when.logs} and above within {when.window} s, {bound}"
            return f"{when.metric} ({when.aggregate or 'mean'} over {when.window} s) is {value or 0:.6g}, {bound}"


def resolution_of(rule: AlertRule) -> str:
    """Why an alert is over, where its condition does not hold any more."""
    return f"its condition has not held for {rule.clear_for_s} s"
