"""Counters and windows, purely."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, reset_tzpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_contracts.catalogue import Guardrail, Profile
from countersign_policy.guardrails import counts_of, is_open, judge

from .conftest import make_action

BERLIN = ZoneInfo("Europe/Berlin")


def guardrail(**fields: Any) -> Guardrail:
    return Guardrail(**({"kind": "rate", "name": "g", "limit": 3, "window_s": 60, "per": "agent"} | fields))


def profile(*guardrails: Guardrail) -> Profile:
    return Profile(name="p", environments=("dev",), tools=("list_tickets",), guardrails=guardrails)


def key_of(rule: Guardrail, **action: Any) -> str:
    (count,), reasons = counts_of(profile(rule), make_action(**action))
    assert reasons == []
    return count.key


def window(start: str, end: str, **fields: Any) -> Guardrail:
    return Guardrail(kind="time_window", name="w", start=start, end=end, **fields)


@pytest.mark.parametrize(
    ("rule", "local", "is_in"),
    [
        (window("09:00", "17:00"), "2026-03-02T09:00", True),
        (window("09:00", "17:00"), "2026-03-02T08:59", False),
        (window("09:00", "17:00"), "2026-03-02T17:00", False),
        (window("09:00", "17:00", days=("mon",)), "2026-03-03T12:00", False),
        # across midnight the window belongs to the day it starts on
        (window("22:00", "06:00"), "2026-03-02T23:00", True),
        (window("22:00", "06:00"), "2026-03-02T05:59", True),
        (window("22:00", "06:00"), "2026-03-02T06:00", False),
        (window("22:00", "06:00"), "2026-03-02T12:00", False),
        (window("22:00", "06:00", days=("fri",)), "2026-03-06T23:00", True),
        (window("22:00", "06:00", days=("fri",)), "2026-03-07T05:00", True),
        (window("22:00", "06:00", days=("fri",)), "2026-03-06T05:00", False),
        (window("22:00", "06:00", days=("fri",)), "2026-03-07T23:00", False),
    ],
)
def test_a_window_is_open_by_the_local_clock(rule: Guardrail, local: str, is_in: bool) -> None:
    rule = rule.model_copy(update={"timezone": "Europe/Berlin"})
    at = datetime.fromisoformat(local).replace(tzinfo=BERLIN)
    assert is_open(rule, at) is is_in
    assert is_open(rule, at.astimezone(ZoneInfo("America/New_York"))) is is_in


def test_a_window_keeps_its_local_hours_over_the_change_of_clocks() -> None:
    rule = window("09:00", "17:00", timezone="Europe/Berlin")
    winter = datetime(2026, 3, 28, 8, 30, tzinfo=ZoneInfo("UTC"))
    summer = datetime(2026, 3, 29, 8, 30, tzinfo=ZoneInfo("UTC"))
    assert (is_open(rule, winter), is_open(rule, summer)) == (True, True)
    assert (is_open(rule, winter - timedelta(hours=1)), is_open(rule, summer - timedelta(hours=1))) == (False, True)


minutes = st.integers(0, 24 * 60 - 1).map(lambda m: f"{m // 60:02}:{m % 60:02}")


@given(minutes, minutes, st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)))
def test_a_window_and_its_complement_never_overlap_nor_leave_a_gap(start: str, end: str, at: datetime) -> None:
    if start == end:
        return
    moment = at.replace(tzinfo=ZoneInfo("UTC"))
    assert is_open(window(start, end), moment) != is_open(window(end, start), moment)


def test_each_counter_counts_for_whom_it_says() -> None:
    agent, tool, person = (guardrail(per=per) for per in ("agent", "tool", "person"))
    assert key_of(agent) == key_of(agent, tool="pay", session_id="s")
    assert key_of(agent) != key_of(agent, agent_id="other")
    assert key_of(tool) == key_of(tool, agent_id="other")
    assert key_of(tool) != key_of(tool, tool="pay")
    ann = {"principal_chain": ("system:x", "person:ann", "person:bob")}
    assert key_of(person, **ann) == key_of(person, agent_id="other", principal_chain=("person:ann",))
    assert key_of(person, **ann) != key_of(person, principal_chain=("person:bob",))
    assert key_of(person) != key_of(person, agent_id="other"), "without a person it counts for the agent"
    session = Guardrail(kind="session_calls", name="g", limit=1)
    assert key_of(session, session_id="a") != key_of(session, session_id="b")
    assert key_of(session, session_id="a") != key_of(session, session_id="a", agent_id="other")


def test_two_guardrails_never_share_a_counter() -> None:
    assert key_of(guardrail(name="a")) != key_of(guardrail(name="b"))
    assert key_of(guardrail(name='a"],["b')) != key_of(guardrail(name="a"))


@pytest.mark.parametrize("value", ["12", True, -1, None, [1], -0.5])
def test_what_cannot_be_added_up_is_denied(value: Any) -> None:
    rule = guardrail(kind="spend", field="amount")
    counts, reasons = counts_of(profile(rule), make_action(args={"amount": value}))
    assert counts == []
    assert [r.code for r in reasons] == ["guardrail"]


def test_an_absent_amount_counts_nothing() -> None:
    rule = guardrail(kind="spend", field="amount")
    ((count,), _) = counts_of(profile(rule), make_action())
    assert count.amount == 0


@given(st.lists(st.floats(0, 1e6, allow_nan=False).map(lambda f: round(f, 2)), max_size=30))
def test_spend_is_added_up_to_the_cent(amounts: list[float]) -> None:
    rule = guardrail(kind="spend", field="amount", limit=1e9)
    used = Decimal(0)
    for amount in amounts:
        ((count,), _) = counts_of(profile(rule), make_action(args={"amount": amount}))
        used += count.amount
    assert used * 100 == sum(round(a * 100) for a in amounts)


@given(st.integers(0, 20), st.integers(0, 20))
def test_a_limit_is_exceeded_only_beyond_it(limit: int, used: int) -> None:
    (count,), _ = counts_of(profile(guardrail(limit=limit)), make_action())
    (use,), reasons = judge([count], {count.key: Decimal(used)})
    assert use.exceeded == (used + 1 > limit)
    assert bool(reasons) == use.exceeded
    assert (use.used, use.limit) == (used + 1, limit)


def test_time_zones_are_known_where_the_system_brings_none() -> None:
    reset_tzpath(to=[])
    try:
        assert ZoneInfo.no_cache("Europe/Berlin").key == "Europe/Berlin"
    finally:
        reset_tzpath()
