"""The registry's SQL for alert rules and alerts. What takes a connection works in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from countersign_chassis import Connection, Database
from countersign_contracts.alert_rules import AlertRule
from countersign_contracts.alerts import Acknowledgement, Alert, AlertRuleView, AlertState

from .alerting import Active, Described, Pending

_RULES = "SELECT * FROM alert_rule ORDER BY name"
_PUT = """
INSERT INTO alert_rule (name, version, body)
SELECT $1::text, coalesce(max(version), 0) + 1, $2::text FROM alert_rule_history WHERE name = $1
ON CONFLICT (name) DO UPDATE SET version = excluded.version, body = excluded.body, evaluated_at = NULL
"""
_KEEP = """
INSERT INTO alert_rule_history (name, version, body, by, at)
SELECT $1::text, coalesce(max(version), 0) + 1, $2::text, $3::text, $4::timestamptz
FROM alert_rule_history WHERE name = $1
"""
_BEGIN_ANEW = "DELETE FROM alert_pending WHERE rule = $1"
_REMOVE = "DELETE FROM alert_rule WHERE name = $1 RETURNING body"
_LOOKED = """
UPDATE alert_rule r SET evaluated_at = $3, watching_since = u.since
FROM unnest($1::text[], $2::timestamptz[]) AS u (name, since) WHERE r.name = u.name
"""
_STATES = """
SELECT s.*, a.agent_type, a.owner_team, a.environments, a.status FROM (
    SELECT rule, agent_id, since, NULL AS alert_id, NULL::timestamptz AS clearing_since FROM alert_pending
    UNION ALL
    SELECT rule, agent_id, since, alert_id, clearing_since FROM alert WHERE resolved_at IS NULL
) s LEFT JOIN agent a USING (agent_id)
"""
_WAIT = """
INSERT INTO alert_pending (rule, agent_id, since) SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[])
ON CONFLICT (rule, agent_id) DO UPDATE SET since = excluded.since
"""
_WAIT_NO_MORE = """
DELETE FROM alert_pending p USING unnest($1::text[], $2::text[]) AS u (rule, agent_id)
WHERE p.rule = u.rule AND p.agent_id = u.agent_id
"""
_CLEARING = """
UPDATE alert t SET clearing_since = u.since FROM unnest($1::text[], $2::timestamptz[]) AS u (alert_id, since)
WHERE t.alert_id = u.alert_id AND t.resolved_at IS NULL
"""
_RAISE = """
INSERT INTO alert (alert_id, rule, rule_version, severity, description, agent_id, owner_team, summary, value, routes,
                   since, raised_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""
_RESOLVE = """
UPDATE alert t SET resolved_at = $3, resolution = u.resolution, clearing_since = NULL, revision = revision + 1
FROM unnest($1::text[], $2::text[]) AS u (alert_id, resolution)
WHERE t.alert_id = u.alert_id AND t.resolved_at IS NULL RETURNING t.*
"""
_ACKNOWLEDGE = """
UPDATE alert SET acked_by = $2, acked_at = $3, ack_comment = $4, revision = revision + 1
WHERE alert_id = $1 AND resolved_at IS NULL AND acked_at IS NULL RETURNING *
"""
_ONE = "SELECT * FROM alert WHERE alert_id = $1"
_PAGE = """
SELECT * FROM alert
WHERE ($1::text IS NULL OR alert_id < $1)
  AND ($2::text IS NULL OR CASE $2 WHEN 'active' THEN resolved_at IS NULL
                                   WHEN 'open' THEN resolved_at IS NULL AND acked_at IS NULL
                                   WHEN 'acknowledged' THEN resolved_at IS NULL AND acked_at IS NOT NULL
                                   ELSE resolved_at IS NOT NULL END)
  AND ($3::text IS NULL OR agent_id = $3) AND ($4::text IS NULL OR rule = $4) AND ($5::text IS NULL OR severity = $5)
ORDER BY alert_id DESC LIMIT $6
"""
_VIEWS = """
SELECT r.*, (SELECT count(*) FROM alert_pending p WHERE p.rule = r.name) AS pending,
       (SELECT count(*) FROM alert t WHERE t.rule = r.name AND t.resolved_at IS NULL) AS active
FROM alert_rule r ORDER BY name
"""
_ACTIVE = "SELECT severity, count(*) AS n FROM alert WHERE resolved_at IS NULL GROUP BY severity"
_FORGET = "DELETE FROM alert WHERE resolved_at < $1"


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A rule, and how it was looked at."""

    rule: AlertRule
    version: int
    evaluated_at: datetime | None
    watching_since: datetime | None


@dataclass(frozen=True, slots=True)
class StateRow:
    """What is known of a rule and an agent. ``agent``: none, if it is not registered any more."""

    state: Pending | Active
    alert_id: str | None
    agent: Described | None


Key = tuple[str, str]


class AlertStore:
    """The queries."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._read: dict[tuple[str, int], AlertRule] = {}

    # --- rules --------------------------------------------------------------------------------------

    async def rules(self, connection: Connection | None = None) -> dict[str, RuleRow]:
        """Every rule, by name."""
        rows = await (connection or self._db.pool).fetch(_RULES)
        self._read = {(row["name"], row["version"]): self._rule(row) for row in rows}
        return {
            row["name"]: RuleRow(self._rule(row), row["version"], row["evaluated_at"], row["watching_since"])
            for row in rows
        }

    async def put(self, connection: Connection, rule: AlertRule, by: str, at: datetime) -> None:
        """Write a rule, new or changed: its alerts stay, what is pending begins anew."""
        body = rule.model_dump_json(exclude_none=True)
        await connection.execute(_PUT, rule.name, body)
        await connection.execute(_KEEP, rule.name, body, by, at)
        await connection.execute(_BEGIN_ANEW, rule.name)

    async def remove(self, connection: Connection, name: str, by: str, at: datetime) -> AlertRule | None:
        """Delete a rule; returns what it said, if it was there."""
        body = await connection.fetchval(_REMOVE, name)
        if body is None:
            return None
        await connection.execute(_KEEP, name, None, by, at)
        return AlertRule.model_validate_json(body)

    async def looked(self, connection: Connection, since: Mapping[str, datetime], at: datetime) -> None:
        """These rules were looked at, and are watched since then."""
        await connection.execute(_LOOKED, list(since), list(since.values()), at)

    async def views(self) -> list[AlertRuleView]:
        """The rules as people see them."""
        return [
            AlertRuleView(
                rule=self._rule(row),
                version=row["version"],
                evaluated_at=row["evaluated_at"],
                pending=row["pending"],
                active=row["active"],
            )
            for row in await self._db.pool.fetch(_VIEWS)
        ]

    def _rule(self, row: asyncpg.Record) -> AlertRule:
        known = self._read.get((row["name"], row["version"]))
        return known if known is not None else AlertRule.model_validate_json(row["body"])

    # --- what is watched ----------------------------------------------------------------------------

    async def states(self, connection: Connection) -> dict[Key, StateRow]:
        """Everything pending or active, by rule and agent."""
        return {(row["rule"], row["agent_id"]): _state(row) for row in await connection.fetch(_STATES)}

    async def wait(self, connection: Connection, pending: Mapping[Key, datetime]) -> None:
        """These hold since then."""
        if pending:
            await connection.execute(_WAIT, *_columns(pending), list(pending.values()))

    async def wait_no_more(self, connection: Connection, keys: Iterable[Key]) -> None:
        """These are pending no more."""
        if gone := list(keys):
            await connection.execute(_WAIT_NO_MORE, *_columns(gone))

    async def clearing(self, connection: Connection, since: Mapping[str, datetime | None]) -> None:
        """Since when the conditions of active alerts do not hold any more; None: they hold again."""
        if since:
            await connection.execute(_CLEARING, list(since), list(since.values()))

    async def raise_all(self, connection: Connection, alerts: Sequence[Alert]) -> None:
        """Write new alerts."""
        await connection.executemany(
            _RAISE,
            [
                (
                    alert.alert_id,
                    alert.rule,
                    alert.rule_version,
                    alert.severity,
                    alert.description,
                    alert.agent_id,
                    alert.owner_team,
                    alert.summary,
                    alert.value,
                    list(alert.routes),
                    alert.since,
                    alert.raised_at,
                )
                for alert in alerts
            ],
        )

    async def resolve(self, connection: Connection, why: Mapping[str, str], at: datetime) -> list[Alert]:
        """Resolve active alerts, each for its reason; returns them as they are now."""
        if not why:
            return []
        return [_alert(row) for row in await connection.fetch(_RESOLVE, list(why), list(why.values()), at)]

    # --- alerts -------------------------------------------------------------------------------------

    async def acknowledge(
        self, connection: Connection, alert_id: str, by: str, comment: str, at: datetime
    ) -> Alert | None:
        """Somebody has seen it; none if it is not open."""
        row = await connection.fetchrow(_ACKNOWLEDGE, alert_id, by, at, comment)
        return None if row is None else _alert(row)

    async def one(self, alert_id: str, connection: Connection | None = None) -> Alert | None:
        """An alert."""
        row = await (connection or self._db.pool).fetchrow(_ONE, alert_id)
        return None if row is None else _alert(row)

    async def page(
        self,
        *,
        before: str | None,
        state: str | None,
        agent_id: str | None,
        rule: str | None,
        severity: str | None,
        limit: int,
    ) -> list[Alert]:
        """Alerts, those raised last first."""
        rows = await self._db.pool.fetch(_PAGE, before, state, agent_id, rule, severity, limit)
        return [_alert(row) for row in rows]

    async def active(self) -> dict[str, int]:
        """How many are not resolved, by severity."""
        return {row["severity"]: row["n"] for row in await self._db.pool.fetch(_ACTIVE)}

    async def forget(self, before: datetime) -> None:
        """Delete what was resolved before then."""
        await self._db.pool.execute(_FORGET, before)


def _columns(keys: Iterable[Key]) -> tuple[list[str], list[str]]:
    pairs = list(keys)
    return [rule for rule, _ in pairs], [agent_id for _, agent_id in pairs]


def _state(row: asyncpg.Record) -> StateRow:
    state = Pending(row["since"]) if row["alert_id"] is None else Active(row["clearing_since"])
    agent = (
        None
        if row["status"] is None
        else Described(row["agent_id"], row["agent_type"], row["owner_team"], tuple(row["environments"]), row["status"])
    )
    return StateRow(state, row["alert_id"], agent)


def _alert(row: asyncpg.Record) -> Alert:
    state: AlertState = "open" if row["acked_at"] is None else "acknowledged"
    acknowledged = (
        None
        if row["acked_at"] is None
        else Acknowledgement(by=row["acked_by"], at=row["acked_at"], comment=row["ack_comment"] or "")
    )
    return Alert(
        alert_id=row["alert_id"],
        rule=row["rule"],
        rule_version=row["rule_version"],
        severity=row["severity"],
        description=row["description"],
        agent_id=row["agent_id"],
        owner_team=row["owner_team"],
        summary=row["summary"],
        value=row["value"],
        since=row["since"],
        raised_at=row["raised_at"],
        state=state if row["resolved_at"] is None else "resolved",
        acknowledged=acknowledged,
        resolved_at=row["resolved_at"],
        resolution=row["resolution"],
        routes=tuple(row["routes"]),
        revision=row["revision"],
    )
