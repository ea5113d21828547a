"""Of which agents alert rules hold now: one statement for each kind of condition, whatever the number of agents.

What agents sent is data of theirs: numbers are bounded before anything is summed, so that none of them makes a
statement fail for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from countersign_chassis import Connection
from countersign_contracts.alert_rules import OWN, AlertCondition, AlertRule
from countersign_contracts.telemetry import LEVELS

#: An agent's own metric counts as this much at most, either way.
_MOST = "1e100"
_RATIOS: Mapping[str, tuple[str, str]] = {
    "error_share": ("events_failed::float8", "(events_succeeded + events_failed)::float8"),
    "cpu_share": ("cpu_s", "greatest(interval_s, 0.001)"),
    "events_per_second": ("(events_succeeded + events_failed)::float8", "greatest(interval_s, 0.001)"),
    "processing_mean_s": ("processing_s", "(events_succeeded + events_failed)::float8"),
}


@dataclass(frozen=True, slots=True)
class Watched:
    """A rule that is looked at now; ``since``: from then on without a gap."""

    rule: AlertRule
    since: datetime


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule's condition holds of an agent."""

    rule: str
    agent_id: str
    team: str
    value: float | None
    detail: str | None = None


class _Statement:
    """SQL and its parameters, as they grow. Only what is written in this module becomes SQL, never a value."""

    def __init__(self) -> None:
        self.args: list[object] = []
        self._kinds: list[str] = []

    def arg(self, value: object, kind: str) -> str:
        """The place of a value, the same for the same value: equal expressions are computed once."""
        known = list(zip(self.args, self._kinds, strict=True))
        if (value, kind) in known:
            return f"${known.index((value, kind)) + 1}::{kind}"
        self.args.append(value)
        self._kinds.append(kind)
        return f"${len(self.args)}::{kind}"

    def selected(self, rule: AlertRule) -> str:
        """The agents that the rule selects, in columns of table ``agent``."""
        select = rule.select
        terms = ["TRUE"]
        for values, term in (
            (select.agents, "agent_id = ANY({})"),
            (select.types, "agent_type = ANY({})"),
            (select.teams, "owner_team = ANY({})"),
            (select.environments, "environments && {}"),
        ):
            if values:
                terms.append(term.format(self.arg(list(values), "text[]")))
        return " AND ".join(terms)


async def observe(connection: Connection, kind: str, watched: Sequence[Watched], at: datetime) -> list[Hit]:
    """The agents of which the rules, all of one ``kind``, hold."""
    if not watched:
        return []
    statement = _Statement()
    build = {"metric": _metrics, "logs": _logs, "phase": _phases, "silence": _silences}[kind]
    rows = await connection.fetch(build(statement, watched, at), *statement.args)
    return [_hit(watched[row["place"]].rule.name, row) for row in rows]


def _hit(rule: str, row: asyncpg.Record) -> Hit:
    return Hit(rule, row["agent_id"], row["owner_team"], row["value"], row["detail"])


def _metrics(statement: _Statement, watched: Sequence[Watched], at: datetime) -> str:
    # read once for each report, and only where a rule asks for it: that is dear
    own = any((each.rule.when.metric or "").startswith(OWN) for each in watched)
    told = "SELECT *, own::jsonb AS o" if own else "SELECT *"
    return _windowed(statement, watched, at, told + " FROM agent_metrics WHERE TRUE", _aggregated)


def _logs(statement: _Statement, watched: Sequence[Watched], at: datetime) -> str:
    return _windowed(statement, watched, at, "SELECT * FROM agent_log WHERE severity >= 2", _counted)


def _windowed(
    statement: _Statement,
    watched: Sequence[Watched],
    at: datetime,
    told: str,
    column_of: Callable[[_Statement, AlertCondition], str],
) -> str:
    """One pass over what agents ``told`` for each window, whatever the number of rules that look through it."""
    tables: dict[int, dict[str, str]] = {}
    chosen = []
    for place, each in enumerate(watched):
        when = each.rule.when
        columns = tables.setdefault(when.window, {})
        column = columns.setdefault(column_of(statement, when), f"c{len(columns)}")
        chosen.append(_bounded(statement, place, each.rule, f"w{when.window}", column))
    passes = []
    for window, columns in tables.items():
        start = statement.arg(at - timedelta(seconds=window), "timestamptz")
        named = ", ".join(f"{expression} AS {name}" for expression, name in columns.items())
        passes.append(
            f"w{window} AS MATERIALIZED (SELECT * FROM (SELECT agent_id, {named}"  # noqa: S608
            f" FROM ({told} AND received_at > {start} OFFSET 0) r GROUP BY agent_id) m"
            " JOIN agent USING (agent_id) WHERE status <> 'revoked')"
        )
    return f"WITH {', '.join(passes)} {' UNION ALL '.join(chosen)}"


def _bounded(statement: _Statement, place: int, rule: AlertRule, table: str, column: str) -> str:
    when = rule.when
    beyond = (
        f"{column} > {statement.arg(when.above, 'float8')}"
        if when.above is not None
        else f"{column} < {statement.arg(when.below, 'float8')}"
    )
    return (
        f"SELECT {place} AS place, agent_id, owner_team, {column} AS value, NULL AS detail FROM {table}"  # noqa: S608
        f" WHERE {beyond} AND {statement.selected(rule)}"
    )


def _aggregated(statement: _Statement, when: AlertCondition) -> str:
    metric, how = when.metric or "", when.aggregate or "mean"
    if metric in _RATIOS:
        number, of = _RATIOS[metric]
        least = f" AND {{}} >= {when.min_events}" if when.min_events is not None else ""
        if how == "mean":
            told = f"FILTER (WHERE {number} IS NOT NULL)"
            total = f"sum({of}) {told}"
            return f"CASE WHEN {total} > 0{least.format(total)} THEN sum({number}) {told} / {total} END"
        each = f"CASE WHEN {of} > 0{least.format(of)} THEN {number} / {of} END"
    elif metric.startswith(OWN):
        told = f"(o ->> {statement.arg(metric.removeprefix(OWN), 'text')})::float8"
        # `least` and `greatest` pass over NULL: without the CASE, who said nothing would have said the least
        each = f"CASE WHEN {told} IS NOT NULL THEN least(greatest({told}, -{_MOST}), {_MOST}) END"
    else:
        each = f"{metric}::float8"
    if how == "last":
        # the greatest pair of time and value: no group has to be sorted
        pair = f"ARRAY[extract(epoch FROM received_at)::float8, {each}]"
        return f"(max({pair}) FILTER (WHERE {each} IS NOT NULL))[2]"
    return f"{'avg' if how == 'mean' else how}({each})"


def _counted(statement: _Statement, when: AlertCondition) -> str:
    severity = statement.arg(LEVELS.index(when.logs or "error"), "int")
    return f"(count(*) FILTER (WHERE severity >= {severity}))::float8"


def _phases(statement: _Statement, watched: Sequence[Watched], at: datetime) -> str:
    asked = sorted({phase for each in watched for phase in each.rule.when.phase or ()})
    chosen = " UNION ALL ".join(
        f"SELECT {place} AS place, agent_id, owner_team, NULL::float8 AS value, phase_now AS detail FROM s"  # noqa: S608
        f" WHERE phase_now = ANY({statement.arg(list(each.rule.when.phase or ()), 'text[]')})"
        f" AND {statement.selected(each.rule)}"
        for place, each in enumerate(watched)
    )
    return (
        "WITH s AS MATERIALIZED (SELECT agent.*, coalesce(phase, 'registered') AS phase_now"  # noqa: S608
        " FROM agent LEFT JOIN phase USING (agent_id) WHERE status <> 'revoked'"
        f" AND coalesce(phase, 'registered') = ANY({statement.arg(asked, 'text[]')})) {chosen}"
    )


def _silences(statement: _Statement, watched: Sequence[Watched], at: datetime) -> str:
    longest = at - timedelta(seconds=min(each.rule.when.silent_s or 0 for each in watched))
    chosen = []
    for place, each in enumerate(watched):
        # who did not listen cannot say that nobody spoke
        heard = f"greatest(last_seen, {statement.arg(each.since, 'timestamptz')})"
        silence = f"extract(epoch FROM {statement.arg(at, 'timestamptz')} - {heard})::float8"
        chosen.append(
            f"SELECT {place} AS place, agent_id, owner_team, {silence} AS value, NULL AS detail FROM s"  # noqa: S608
            f" WHERE {silence} > {statement.arg(each.rule.when.silent_s, 'int')} AND {statement.selected(each.rule)}"
        )
    return (
        "WITH s AS MATERIALIZED (SELECT agent.*, last_seen"  # noqa: S608
        " FROM agent JOIN heartbeat USING (agent_id) LEFT JOIN phase USING (agent_id) WHERE status <> 'revoked'"
        f" AND coalesce(phase, 'registered') <> 'stopped' AND last_seen < {statement.arg(longest, 'timestamptz')})"
        f" {' UNION ALL '.join(chosen)}"
    )
