"""Alerts about agents: what was raised, acknowledged and resolved; and what people ask and order."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from .alert_rules import AlertRule, Route, Severity
from .approval_rules import RuleName
from .command import Command, Rpc
from .control import DeclarationsChanged
from .event import Spec
from .fleet import FleetEvent
from .ids import AgentId
from .model import Frozen, Time

AlertId = Annotated[str, StringConstraints(pattern=r"^alt_[0-9a-f]{32}$")]
AlertState = Literal["open", "acknowledged", "resolved"]


class Acknowledgement(Frozen):
    """Somebody has seen it."""

    by: str
    at: Time
    comment: str = Field(max_length=2000)


class Alert(Frozen):
    """What a rule found of an agent, from when it was raised until it was resolved, and after."""

    alert_id: AlertId
    rule: RuleName
    rule_version: int = Field(ge=1)
    severity: Severity
    description: str = Field(default="", description="the rule's: what to do about it")
    agent_id: AgentId
    owner_team: str
    summary: str = Field(description="what was found when it was raised")
    value: float | None = Field(default=None, description="of the metric or the count, when it was raised")
    since: Time = Field(description="since when it was so")
    raised_at: Time
    state: AlertState
    acknowledged: Acknowledgement | None = None
    resolved_at: Time | None = None
    resolution: str | None = Field(default=None, description="why it is resolved")
    routes: tuple[Route, ...] = ()
    revision: int = Field(ge=1, description="grows with every change")


class AlertEvent(FleetEvent):
    """An event about an alert, which says the whole of it. Its id is made of the alert's: it happens once."""

    alert: Alert


class AlertRaised(AlertEvent):
    """A rule's condition has held for long enough."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.alert_raised.{token}", ("registry",))


class AlertAcknowledged(AlertEvent):
    """A person has seen it."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.alert_acknowledged.{token}", ("registry",))


class AlertResolved(AlertEvent):
    """It is over, or nobody is asked about it any more: ``alert.resolution`` says which."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.alert_resolved.{token}", ("registry",))


ALERT_EVENTS: tuple[type[AlertEvent], ...] = (AlertRaised, AlertAcknowledged, AlertResolved)


class AlertRulesChanged(DeclarationsChanged):
    """Alert rules changed, or were removed."""

    spec: ClassVar[Spec] = Spec("CONTROL", "control.alert_rules_changed", ("registry",))


# --- what people ask and order ------------------------------------------------------------------------


class Alerts(Frozen):
    items: tuple[Alert, ...]
    next: str | None = Field(default=None, description="pass as `before` for what was raised earlier")


class ListAlerts(Command):
    """Newest first; ``active``: what is not resolved."""

    rpc: ClassVar[Rpc] = Rpc("registry", "alerts")
    reply: ClassVar[type[Frozen]] = Alerts
    state: AlertState | Literal["active"] | None = None
    agent_id: AgentId | None = None
    rule: RuleName | None = None
    severity: Severity | None = None
    before: AlertId | None = None
    limit: int = Field(default=50, ge=1, le=200)


class GetAlert(Command):
    rpc: ClassVar[Rpc] = Rpc("registry", "alert")
    reply: ClassVar[type[Frozen]] = Alert
    alert_id: AlertId


class AcknowledgeAlert(Command):
    """A person says that they have seen it. It stays active until it is resolved."""

    rpc: ClassVar[Rpc] = Rpc("registry", "acknowledge_alert")
    reply: ClassVar[type[Frozen]] = Alert
    alert_id: AlertId
    by: str
    comment: str = Field(default="", max_length=2000)


class AlertRuleView(Frozen):
    """A rule, and how it fares."""

    rule: AlertRule
    version: int = Field(ge=1)
    evaluated_at: Time | None = Field(default=None, description="when it was looked at last")
    pending: int = Field(description="agents of which it holds, and not for long enough yet")
    active: int = Field(description="alerts that are not resolved")


class AlertRules(Frozen):
    items: tuple[AlertRuleView, ...]


class ListAlertRules(Command):
    """By name."""

    rpc: ClassVar[Rpc] = Rpc("registry", "alert_rules")
    reply: ClassVar[type[Frozen]] = AlertRules


class RemoveAlertRule(Command):
    """Remove a rule; its alerts are resolved with that reason, and stay in the history."""

    rpc: ClassVar[Rpc] = Rpc("registry", "remove_alert_rule")
    reply: ClassVar[type[Frozen]] = AlertRule
    name: RuleName
    by: str


def alert_subjects() -> tuple[str, ...]:
    """What consumers of alerts' events hear."""
    return tuple(event.spec.subject.replace("{token}", "*") for event in ALERT_EVENTS)
