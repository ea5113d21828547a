"""What one look at all rules changes: what begins to wait, is raised, clears or is resolved. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime

from countersign_contracts.alerts import Alert

from .alert_store import Key, RuleRow, StateRow
from .alerting import Active, Pending, Step, is_watched, resolution_of, step, summary_of, why_not
from .observing import Hit


@dataclass(slots=True)
class Plan:
    """What is to be written."""

    wait: dict[Key, datetime] = field(default_factory=dict)
    wait_no_more: list[Key] = field(default_factory=list)
    clearing: dict[str, datetime | None] = field(default_factory=dict)
    raised: list[Alert] = field(default_factory=list)
    resolved: dict[str, str] = field(default_factory=dict)


class _Room:
    """So many alerts are raised and resolved in one look; the next goes on with the rest."""

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self) -> bool:
        self._left -= 1
        return self._left >= 0


def plan(
    rules: Mapping[str, RuleRow],
    looked_at: Set[str],
    states: Mapping[Key, StateRow],
    hits: Iterable[Hit],
    at: datetime,
    *,
    tick_s: float,
    most: int,
    new_id: Callable[[], str],
) -> Plan:
    """The changes after a look at the rules ``looked_at``, which found ``hits``; at most ``most`` orders."""
    found = Plan()
    room = _Room(most)
    holding = {(hit.rule, hit.agent_id): hit for hit in hits}
    given_up = {
        key: reason
        for key, known in states.items()
        if (reason := why_not(rules[key[0]].rule if key[0] in rules else None, known.agent)) is not None
    }
    for key, reason in given_up.items():
        alert_id = states[key].alert_id
        if alert_id is None:
            found.wait_no_more.append(key)
        elif room.take():
            found.resolved[alert_id] = reason
    for key in dict.fromkeys((*states, *holding)):
        if key[0] not in looked_at or key in given_up:
            continue
        row, known = rules[key[0]], states.get(key)
        watched = is_watched(row.rule, row.evaluated_at, at, tick_s)
        hit = holding.get(key)
        after = step(known.state if known else None, hit is not None, row.rule, at, watched=watched)
        if after.order is not None and not room.take():
            after = _put_off(known, after, at)
        _write(found, key, known, after, row, hit, at, new_id)
    return found


def _put_off(known: StateRow | None, after: Step, at: datetime) -> Step:
    """As it is, with its time kept: the next look gives the order."""
    if after.order == "raise":
        return Step(Pending(after.since or at))
    clearing = known.state.clearing_since if known is not None and isinstance(known.state, Active) else None
    return Step(Active(clearing or at))


def _write(
    found: Plan,
    key: Key,
    known: StateRow | None,
    after: Step,
    row: RuleRow,
    hit: Hit | None,
    at: datetime,
    new_id: Callable[[], str],
) -> None:
    alert_id = known.alert_id if known is not None else None
    if after.order == "resolve" and alert_id is not None:
        found.resolved[alert_id] = resolution_of(row.rule)
    elif after.order == "raise" and hit is not None:
        found.raised.append(_alert(new_id(), row, hit, after.since or at, at))
        if known is not None:
            found.wait_no_more.append(key)
    elif known is None or known.state != after.state:
        if isinstance(after.state, Pending):
            found.wait[key] = after.state.since
        elif isinstance(after.state, Active) and alert_id is not None:
            found.clearing[alert_id] = after.state.clearing_since
        elif known is not None and alert_id is None:
            found.wait_no_more.append(key)


def _alert(alert_id: str, row: RuleRow, hit: Hit, since: datetime, at: datetime) -> Alert:
    rule = row.rule
    return Alert(
        alert_id=alert_id,
        rule=rule.name,
        rule_version=row.version,
        severity=rule.severity,
        description=rule.description,
        agent_id=hit.agent_id,
        owner_team=hit.team,
        summary=summary_of(rule, hit.value, hit.detail),
        value=hit.value,
        since=since,
        raised_at=at,
        state="open",
        routes=rule.routes,
        revision=1,
    )
