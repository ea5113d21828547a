"""Alerts and their rules as people see them: listed, acknowledged, a rule removed."""

from __future__ import annotations

from countersign_contracts.alert_rules import AlertRule
from countersign_contracts.alerts import (
    AcknowledgeAlert,
    Alert,
    AlertAcknowledged,
    AlertRules,
    AlertRulesChanged,
    Alerts,
    GetAlert,
    ListAlertRules,
    ListAlerts,
    RemoveAlertRule,
)
from countersign_contracts.control import DeclaredChange
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now, rfc3339

from .alert_declarations import shown
from .alert_store import AlertStore
from .outbox import Outbox
from .store import Lock, Store


class AlertCommands:
    """Answers the commands about alerts."""

    def __init__(self, store: Store, alerts: AlertStore, outbox: Outbox) -> None:
        self._store = store
        self._alerts = alerts
        self._outbox = outbox

    async def list(self, command: ListAlerts) -> Alerts:
        """A page of alerts, those raised last first."""
        found = await self._alerts.page(
            before=command.before,
            state=command.state,
            agent_id=command.agent_id,
            rule=command.rule,
            severity=command.severity,
            limit=command.limit + 1,
        )
        items = tuple(found[: command.limit])
        return Alerts(items=items, next=items[-1].alert_id if len(found) > command.limit else None)

    async def get(self, command: GetAlert) -> Alert:
        """One alert. Raises `not_found`."""
        alert = await self._alerts.one(command.alert_id)
        if alert is None:
            raise _not_found(command.alert_id)
        return alert

    async def acknowledge(self, command: AcknowledgeAlert) -> Alert:
        """A person has seen it; the same person again is told the same.

        Raises `not_found`, and `conflict` for one that is resolved, or that somebody else acknowledged.
        """
        at = now()
        async with self._store.transaction() as connection:
            alert = await self._alerts.acknowledge(connection, command.alert_id, command.by, command.comment, at)
            if alert is None:
                return _as_it_is(await self._alerts.one(command.alert_id, connection), command)
            event = AlertAcknowledged(agent_id=alert.agent_id, event=alert.alert_id, by=command.by, at=at, alert=alert)
            await self._outbox.add(connection, [event])
        self._outbox.wake()
        return alert

    async def rules(self, command: ListAlertRules) -> AlertRules:
        """Rules by name."""
        return AlertRules(items=tuple(await self._alerts.views()))

    async def remove_rule(self, command: RemoveAlertRule) -> AlertRule:
        """Remove a rule; the next look resolves its alerts. Raises `not_found`."""
        at = now()
        async with self._store.transaction() as connection:
            await self._store.within(connection, Lock.DECLARE)
            await self._store.within(connection, Lock.ALERTS)
            rule = await self._alerts.remove(connection, command.name, command.by, at)
            if rule is None:
                raise CountersignError(
                    f"there is no alert rule `{command.name}`; `countersign alerts rules` shows those that there are",
                    code="not_found",
                )
            gone = DeclaredChange(kind="alert_rule", name=rule.name, action="remove", before=shown(rule))
            event = AlertRulesChanged(change_id=prefixed("chg"), by=command.by, at=at, changes=(gone,))
            await self._outbox.add(connection, [event])
        self._outbox.wake()
        return rule


def _not_found(alert_id: str) -> CountersignError:
    return CountersignError(
        f"there is no alert {alert_id}, or it was resolved so long ago that it was forgotten;"
        " `countersign alerts list` shows those that there are",
        code="not_found",
    )


def _as_it_is(alert: Alert | None, command: AcknowledgeAlert) -> Alert:
    """What an alert that is not open answers to an acknowledgement."""
    if alert is None:
        raise _not_found(command.alert_id)
    seen = alert.acknowledged
    if seen is not None and seen.by == command.by:
        return alert
    if alert.resolved_at is not None:
        raise CountersignError(
            f"alert {alert.alert_id} was resolved at {rfc3339(alert.resolved_at)[:19]}Z ({alert.resolution}): there is"
            " nothing to acknowledge any more",
            code="conflict",
        )
    who = f"by {seen.by} at {rfc3339(seen.at)[:19]}Z" if seen is not None else "meanwhile"
    raise CountersignError(f"alert {alert.alert_id} was acknowledged {who} already", code="conflict")
