"""Looks at the alert rules, for ever: one registry at a time, which is whichever has the lock of the moment.

A look is one transaction: what it read, what it decides and the events that tell of it. Whoever dies in it has done
nothing; whoever stands still in it is cut off by PostgreSQL. Nothing that a look needs is in a process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from countersign_chassis import Connection, Failpoints
from countersign_chassis.connection import NatsConnection
from countersign_chassis.metrics import Metrics
from countersign_contracts.alert_rules import SEVERITIES
from countersign_contracts.alerts import Alert, AlertRaised, AlertResolved
from countersign_contracts.ids import prefixed

from .alert_plan import plan
from .alert_store import AlertStore, RuleRow
from .alerting import every_s, is_due, is_watched
from .observing import Hit, Watched, observe
from .outbox import Outbox
from .settings import Settings
from .store import Lock, Store

#: A look that takes longer is cut off, and so is one whose registry stands still.
_LIMITS = "SET LOCAL statement_timeout = '20s'; SET LOCAL idle_in_transaction_session_timeout = '15s'"
#: Alerts raised and resolved in one look, at most; the next goes on.
_MOST_ORDERS = 500
_FORGET_EVERY_S = 600.0
_KINDS = ("metric", "logs", "phase", "silence")


class Evaluating:
    """One loop."""

    def __init__(
        self,
        store: Store,
        alerts: AlertStore,
        outbox: Outbox,
        connection: NatsConnection,
        settings: Settings,
        metrics: Metrics,
        failpoints: Failpoints,
        clock: Callable[[], datetime],
        log: Any,
    ) -> None:
        self._store = store
        self._alerts = alerts
        self._outbox = outbox
        self._connection = connection
        self._failpoints = failpoints
        self._clock = clock
        self._log = log
        self._tick_s = settings.alerts_every_s
        self._keep = timedelta(days=settings.alerts_keep_days)
        self._active = metrics.gauge(
            "countersign_alerts_open", "Alerts about agents that are not resolved", ["severity"]
        )
        self._late = metrics.gauge(
            "countersign_alerts_late_seconds", "How much later than it should be the latest alert rule is looked at"
        )
        self._took = metrics.histogram("countersign_alerts_look_seconds", "Looks at the alert rules that were due")
        self._failed = metrics.counter(
            "countersign_alerts_looks_failed", "Looks at the alert rules of a kind that failed", ["kind"]
        )
        self._forgot_at = -_FORGET_EVERY_S

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            await self.look()
            await self._tell()
            await self._forget()
            await asyncio.sleep(self._tick_s)

    async def look(self) -> bool:
        """Look at the rules that are due; false if another registry does."""
        async with self._store.transaction() as connection:
            if not await self._store.within_at_once(connection, Lock.ALERTS):
                return False
            await connection.execute(_LIMITS)
            at = self._clock()
            rules = await self._alerts.rules(connection)
            with self._took.time():
                told = await self._look(connection, rules, at)
            await self._failpoints.hit("registry.after_look_before_commit")
        if told:
            self._outbox.wake()
        return True

    async def _look(self, connection: Connection, rules: dict[str, RuleRow], at: datetime) -> bool:
        since = {
            name: row.watching_since
            if row.watching_since is not None and is_watched(row.rule, row.evaluated_at, at, self._tick_s)
            else at
            for name, row in rules.items()
            if row.rule.enabled and is_due(row.rule, row.evaluated_at, at, self._tick_s)
        }
        hits: list[Hit] = []
        for kind in _KINDS:
            watched = [Watched(rules[name].rule, since[name]) for name in since if rules[name].rule.when.kind == kind]
            found = await self._observed(connection, kind, watched, at)
            if found is None:
                for each in watched:
                    del since[each.rule.name]
            else:
                hits += found
        changes = plan(
            rules,
            since.keys(),
            await self._alerts.states(connection),
            hits,
            at,
            tick_s=self._tick_s,
            most=_MOST_ORDERS,
            new_id=lambda: prefixed("alt"),
        )
        await self._alerts.wait_no_more(connection, changes.wait_no_more)
        await self._alerts.wait(connection, changes.wait)
        await self._alerts.clearing(connection, changes.clearing)
        await self._alerts.raise_all(connection, changes.raised)
        resolved = await self._alerts.resolve(connection, changes.resolved, at)
        await self._alerts.looked(connection, since, at)
        await self._outbox.add(
            connection, [*_events(AlertRaised, changes.raised, at), *_events(AlertResolved, resolved, at)]
        )
        return bool(changes.raised or resolved)

    async def _observed(
        self, connection: Connection, kind: str, watched: list[Watched], at: datetime
    ) -> list[Hit] | None:
        """What the rules of a kind find; none if it cannot be said now, which holds up no other kind."""
        if kind == "silence" and not self._connection.client.is_connected:
            return None  # who does not listen cannot say that nobody speaks
        try:
            async with connection.transaction():
                return await observe(connection, kind, watched, at)
        except asyncpg.PostgresError as error:
            self._failed.labels(kind).inc()
            self._log.error("alert rules could not be looked at", kind=kind, error=str(error))
            return None

    async def _tell(self) -> None:
        active = await self._alerts.active()
        for severity in SEVERITIES:
            self._active.labels(severity).set(active.get(severity, 0))
        rules, at = await self._alerts.rules(), self._clock()
        self._late.set(max((self._late_s(row, at) for row in rules.values() if row.rule.enabled), default=0.0))

    def _late_s(self, row: RuleRow, at: datetime) -> float:
        """How much longer ago a rule was looked at than it should be; a new one is not late."""
        if row.evaluated_at is None:
            return 0.0
        return max((at - row.evaluated_at).total_seconds() - every_s(row.rule, self._tick_s), 0.0)

    async def _forget(self) -> None:
        moment = asyncio.get_running_loop().time()
        if moment - self._forgot_at >= _FORGET_EVERY_S:
            await self._alerts.forget(self._clock() - self._keep)
            self._forgot_at = moment


def _events(
    kind: type[AlertRaised | AlertResolved], alerts: Iterable[Alert], at: datetime
) -> list[AlertRaised | AlertResolved]:
    return [kind(agent_id=alert.agent_id, event=alert.alert_id, by="registry", at=at, alert=alert) for alert in alerts]
