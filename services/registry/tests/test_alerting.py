"""When alerts are raised and resolved: by tables, and by whatever hypothesis thinks of. No servers."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from countersign_contracts.alert_rules import AgentSelector, AlertCondition, AlertRule
from countersign_registry.alert_plan import Plan, plan
from countersign_registry.alert_store import Key, RuleRow, StateRow
from countersign_registry.alerting import (
    GAP_S,
    Active,
    Described,
    Pending,
    State,
    Step,
    every_s,
    is_due,
    selects,
    step,
    summary_of,
    why_not,
)
from countersign_registry.observing import Hit

T0 = datetime(2026, 1, 31, 12, tzinfo=UTC)
AGENT = Described("alpha", "stock-watch", "shop", ("dev", "prod"), "active")


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def rule(**more: Any) -> AlertRule:
    given = {"name": "busy", "when": {"phase": ["failed"]}, "for_s": 30, "clear_for_s": 20} | more
    return AlertRule.model_validate(given)


@pytest.mark.parametrize(
    ("state", "holds", "watched", "after"),
    [
        (None, False, True, Step(None)),
        (None, True, True, Step(Pending(at(100)))),
        (Pending(at(71)), True, True, Step(Pending(at(71)))),
        (Pending(at(70)), True, True, Step(Active(), "raise", at(70))),
        (Pending(at(0)), False, True, Step(None)),
        # nobody looked for too long: what was meanwhile is not known
        (Pending(at(0)), True, False, Step(Pending(at(100)))),
        (Active(), True, True, Step(Active())),
        (Active(), False, True, Step(Active(at(100)))),
        (Active(at(81)), False, True, Step(Active(at(81)))),
        (Active(at(80)), False, True, Step(None, "resolve")),
        (Active(at(0)), True, True, Step(Active())),
        (Active(at(0)), False, False, Step(Active(at(100)))),
    ],
)
def test_each_state_has_its_step(state: State, holds: bool, watched: bool, after: Step) -> None:
    assert step(state, holds, rule(), at(100), watched=watched) == after


def test_without_times_it_is_raised_and_resolved_at_once() -> None:
    at_once = rule(for_s=0, clear_for_s=0)
    assert step(None, True, at_once, at(0), watched=False).order == "raise"
    assert step(Active(), False, at_once, at(0), watched=False).order == "resolve"


class Book:
    """What the registry's tables would hold, with every order in the order in which it was given."""

    def __init__(self, given: AlertRule) -> None:
        self.row = RuleRow(given, 1, None, None)
        self.states: dict[Key, StateRow] = {}
        self.orders: list[tuple[str, datetime]] = []
        self.ids = itertools.count()

    def look(self, moment: datetime, holds: bool, *, most: int = 500) -> Plan:
        hits = [Hit("busy", "alpha", "shop", 1.0, "failed")] if holds else []
        found = plan(
            {"busy": self.row}, {"busy"}, self.states, hits, moment, tick_s=5.0, most=most, new_id=self._new_id
        )
        for key in found.wait_no_more:
            del self.states[key]
        for key, since in found.wait.items():
            assert key not in self.states or self.states[key].alert_id is None
            self.states[key] = StateRow(Pending(since), None, AGENT)
        for alert in found.raised:
            key = (alert.rule, alert.agent_id)
            assert key not in self.states, "two at once"
            self.states[key] = StateRow(Active(), alert.alert_id, AGENT)
            self.orders.append(("raise", moment))
        for key, known in list(self.states.items()):
            if known.alert_id in found.resolved:
                del self.states[key]
                self.orders.append(("resolve", moment))
            elif known.alert_id in found.clearing:
                self.states[key] = StateRow(Active(found.clearing[known.alert_id or ""]), known.alert_id, AGENT)
        self.row = RuleRow(self.row.rule, 1, moment, self.row.watching_since)
        return found

    def _new_id(self) -> str:
        return f"alt_{next(self.ids):032x}"


def _held(looks: list[tuple[datetime, bool]], end: datetime, holds: bool, seconds: int) -> bool:
    """Whether every look back to ``seconds`` before ``end`` says ``holds``, and none lies too far from the next."""
    later = end
    for moment, held in reversed([each for each in looks if each[0] <= end]):
        if held != holds or (later - moment).total_seconds() > GAP_S:
            return False
        if (end - moment).total_seconds() >= seconds:
            return True
        later = moment
    return False


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])  # on a machine that has others' work
@given(
    st.lists(st.tuples(st.integers(1, 200), st.booleans()), max_size=40),
    st.integers(0, 100),
    st.integers(0, 100),
    st.booleans(),
)
def test_raised_and_resolved_in_turn_and_never_before_their_times(
    looks: list[tuple[int, bool]], for_s: int, clear_for_s: int, crowded: bool
) -> None:
    book = Book(rule(for_s=for_s, clear_for_s=clear_for_s))
    moment = T0
    seen: list[tuple[datetime, bool]] = []
    for n, (seconds, holds) in enumerate(looks):
        moment += timedelta(seconds=seconds)
        seen.append((moment, holds))
        # now and then there is no room for any order: it is given later, not lost and not twice
        book.look(moment, holds, most=0 if crowded and n % 3 == 0 else 500)
    assert [order for order, _ in book.orders] == [("raise", "resolve")[n % 2] for n in range(len(book.orders))]
    for order, when in book.orders:
        assert _held(seen, when, order == "raise", for_s if order == "raise" else clear_for_s)
    if seen and not crowded:
        active = [known for known in book.states.values() if known.alert_id is not None]
        assert active or not _held(seen, moment, True, for_s), "held for long enough, and not raised"


def test_an_agent_or_rule_that_is_gone_resolves_at_once_and_waits_for_nothing() -> None:
    active = StateRow(Active(), "alt_1", Described("alpha", None, "shop", ("dev",), "revoked"))
    pending = StateRow(Pending(T0), None, AGENT)
    rules = {"off": RuleRow(rule(name="off", enabled=False), 1, T0, T0), "on": RuleRow(rule(name="on"), 1, T0, T0)}
    states = {
        ("on", "alpha"): active,
        ("off", "beta"): StateRow(Active(), "alt_2", AGENT),
        ("off", "gamma"): pending,
        ("gone", "delta"): StateRow(Active(), "alt_3", AGENT),
    }
    found = plan(rules, set(), states, [], at(1), tick_s=5, most=500, new_id=str)
    assert found.resolved == {
        "alt_1": "the agent was revoked",
        "alt_2": "the rule was disabled",
        "alt_3": "the rule was removed",
    }
    assert found.wait_no_more == [("off", "gamma")] and not found.raised and not found.wait


def test_a_rule_that_was_not_looked_at_changes_nothing() -> None:
    states = {("busy", "alpha"): StateRow(Active(), "alt_1", AGENT)}
    assert plan({"busy": RuleRow(rule(), 1, T0, T0)}, set(), states, [], at(9), tick_s=5, most=9, new_id=str) == Plan()


def test_only_so_many_are_raised_in_one_look_and_the_rest_keep_their_time() -> None:
    rules = {"busy": RuleRow(rule(for_s=0), 1, T0, T0)}
    hits = [Hit("busy", f"agent-{n}", "shop", None, "failed") for n in range(5)]
    found = plan(rules, {"busy"}, {}, hits, at(1), tick_s=5, most=2, new_id=lambda: f"alt_{0:032x}")
    assert [alert.agent_id for alert in found.raised] == ["agent-0", "agent-1"]
    assert found.wait == {("busy", f"agent-{n}"): at(1) for n in (2, 3, 4)}
    assert all(alert.state == "open" for alert in found.raised)


@pytest.mark.parametrize(
    ("selector", "meant"),
    [
        ({}, True),
        ({"agents": ["alpha"]}, True),
        ({"agents": ["beta"]}, False),
        ({"types": ["stock-watch"], "teams": ["shop"]}, True),
        ({"types": ["stock-watch"], "teams": ["ops"]}, False),
        ({"environments": ["prod", "staging"]}, True),
        ({"environments": ["staging"]}, False),
    ],
)
def test_a_selector_means_agents_for_which_all_it_says_holds(selector: dict[str, Any], meant: bool) -> None:
    parsed = AgentSelector.model_validate(selector)
    assert selects(parsed, AGENT) is meant
    assert (why_not(rule(select=selector), AGENT) is None) is meant


def test_long_windows_are_looked_at_less_often() -> None:
    hour = rule(when={"metric": "error_share", "window_s": 3600, "above": 0.5})
    short = rule(when={"metric": "error_share", "window_s": 60, "above": 0.5})
    assert (every_s(hour, 5), every_s(short, 5), every_s(rule(), 5)) == (120, 5, 5)
    assert is_due(hour, None, T0, 5) and is_due(hour, T0, at(118), 5) and not is_due(hour, T0, at(117), 5)


@pytest.mark.parametrize(
    ("when", "value", "said"),
    [
        (
            {"metric": "error_share", "window_s": 120, "above": 0.1},
            0.25,
            "error_share (mean over 120 s) is 0.25, above 0.1",
        ),
        (
            {"metric": "values.queue", "aggregate": "last", "below": 3},
            1.0,
            "values.queue (last over 300 s) is 1, below 3",
        ),
        ({"logs": "error", "above": 10}, 12.0, "12 log records of level error and above within 300 s, above 10"),
        ({"phase": ["failed"]}, None, "it is failed"),
        ({"silent_s": 90}, 95.2, "no heartbeat for 95 s, more than 90 s"),
    ],
)
def test_what_was_found_is_said_in_a_sentence(when: dict[str, Any], value: float | None, said: str) -> None:
    assert summary_of(rule(when=when), value, "failed") == said


@pytest.mark.parametrize(
    ("when", "wrong"),
    [
        ({}, "about one of metric, logs, phase and silent_s, not nothing"),
        ({"metric": "cpu_share", "phase": ["failed"], "above": 1}, "not metric and phase"),
        ({"metric": "cpu_share"}, "metric needs a bound: `above` or `below`"),
        ({"metric": "cpu_share", "above": 1, "below": 2}, "metric needs a bound"),
        ({"metric": "cpu", "above": 1}, "`cpu` is no metric; there are error_share, cpu_share"),
        ({"metric": "values.Queue", "above": 1}, "`values.Queue` is no metric"),
        ({"metric": "cpu_share", "aggregate": "sum", "above": 1}, "cpu_share is a ratio, which cannot be summed"),
        ({"metric": "cpu_share", "min_events": 5, "above": 1}, "`min_events` is for error_share and processing_mean_s"),
        ({"logs": "error", "below": 1}, "`above` is all that can be said of their number"),
        ({"silent_s": 60, "above": 1}, "`above` has no meaning for silent_s"),
        ({"phase": ["failed"], "window_s": 60}, "`window_s` has no meaning for phase"),
    ],
)
def test_a_condition_that_cannot_be_meant_is_refused(when: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong.replace("(", r"\(")):
        AlertCondition.model_validate(when)
