"""The rules about telemetry that need no server: bounds, days, places in the order, health."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_contracts.errors import CountersignError
from countersign_contracts.telemetry import MetricsSummary
from countersign_registry.health import troubles
from countersign_registry.shedding import BURST_S, MESSAGE_BYTES, Budget, Hush
from countersign_registry.telemetry_days import day_of, partition_name, too_old, wanted
from countersign_registry.telemetry_pages import Place, pattern_of, place_of

sent = st.lists(st.tuples(st.floats(0, 1000), st.integers(0, 262_144)), max_size=60).map(sorted)


@given(sent, st.integers(8192, 100_000))
def test_no_agent_gets_more_than_its_bound_and_a_burst(messages: list[tuple[float, int]], per_s: int) -> None:
    budget = Budget(per_s)
    taken = [(at, size + MESSAGE_BYTES) for at, size in messages if budget.take("flood", size, at)]
    for i, (since, _) in enumerate(taken):
        for until, _ in taken[i:]:
            within = sum(cost for at, cost in taken if since <= at <= until)
            assert within <= (BURST_S + until - since) * per_s + 1e-3
    assert budget.take("calm", 262_144, 1000)


def test_who_was_shed_is_heard_again_after_a_while_and_the_clock_never_goes_back() -> None:
    budget = Budget(10_000)
    assert budget.take("a", 590_000, 100)
    assert not budget.take("a", 100_000, 100)
    assert not budget.take("a", 100_000, 50), "delivered late: nothing comes in for it"
    assert not budget.take("a", 100_000, 109)
    assert budget.take("a", 100_000, 112)


def test_agents_that_are_quiet_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("countersign_registry.shedding._MOST_KNOWN", 10)
    budget = Budget(8192)
    assert budget.take("busy", 400_000, 99)
    for n in range(100):
        assert budget.take(f"a-{n}", 1, n)
    assert len(budget._of) <= 11
    assert not budget.take("busy", 200_000, 99)


def test_a_flood_of_faults_is_told_once_a_minute_for_each_agent() -> None:
    hush = Hush(60, most=2)
    assert [hush.swallowed("a", at) for at in (0, 1, 2, 59, 60, 61)] == [0, None, None, None, 3, None]
    assert hush.swallowed("b", 62) == 0
    assert hush.swallowed("c", 63) is None, "as many as are remembered"
    assert hush.swallowed("c", 121) == 0, "`a` is forgotten by now"


AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_days_are_kept_whole_for_as_long_as_was_said() -> None:
    days = [date(2026, 2, 20) + timedelta(days=n) for n in range(15)]
    assert too_old(days, 7, AT) == [date(2026, 2, n) for n in (20, 21)]
    assert too_old(days, 7, datetime(2026, 3, 2, tzinfo=UTC)) == [date(2026, 2, n) for n in (20, 21, 22)]
    assert too_old(reversed(days), 1, AT)[-1] == date(2026, 2, 27)
    assert sorted(wanted(date(2026, 2, 28)))[::4] == [date(2026, 2, 27), date(2026, 3, 3)]


@given(st.dates(date(1000, 1, 1), date(9999, 12, 31)))
def test_a_partition_is_known_by_its_name(day: date) -> None:
    assert day_of("agent_log", partition_name("agent_log", day)) == day


@pytest.mark.parametrize(
    "name", ["agent_log_default", "agent_log_20261301", "agent_metrics_20261201", "agent_log_2026120"]
)
def test_what_is_no_day_of_ours_is_left_alone(name: str) -> None:
    assert day_of("agent_log", name) is None


@given(
    st.datetimes(datetime(2, 1, 1), datetime(5000, 1, 1), timezones=st.just(UTC)),
    st.from_regex(r"[A-Za-z0-9_-]{8,64}", fullmatch=True),
    st.integers(0, 500),
)
def test_a_page_goes_on_where_its_cursor_says(at: datetime, batch: str, place: int) -> None:
    here = Place(at, batch, place)
    assert place_of(str(here)) == here


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "1",
        "1.2",
        "1.2.short",
        "x.2.12345678",
        "99999999999999999.1.12345678" * 2,
        "-99999999999999999.1.12345678",
        "1.2.12345678\n",
        "\u0661.1.12345678",
    ],
)
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(CountersignError) as refused:
        place_of(cursor)
    assert refused.value.code == "invalid"


def test_what_is_looked_for_means_itself() -> None:
    assert pattern_of(r"100%_\x") == r"%100\%\_\\x%"


NONE = MetricsSummary(reports=0, covered_s=0)


def hour(succeeded: int, failed: int) -> MetricsSummary:
    return MetricsSummary(
        reports=1,
        covered_s=60,
        events_succeeded=succeeded,
        events_failed=failed,
        error_share=failed / (succeeded + failed),
    )


@pytest.mark.parametrize(
    ("case", "reasons"),
    [
        ({}, ()),
        ({"said": {"status": "ok"}}, ()),
        ({"said": {"status": "degraded"}}, ("its heartbeat says `degraded`",)),
        ({"status": "paused"}, ("it is paused, by order",)),
        ({"phase": "registered"}, ("it was never heard of",)),
        ({"phase": "stopped", "said": {"status": "stopping"}}, ("it has stopped",)),
        (
            {"phase": "failed", "cause": "silence", "status": "revoked"},
            ("it is revoked, by order", "it has failed: silence"),
        ),
        ({"hour": hour(5, 5)}, ("5 of its 10 events of the last hour failed",)),
        ({"hour": hour(5, 4)}, ()),
        ({"hour": hour(0, 9)}, ()),
        ({"hour": hour(6, 5)}, ()),
    ],
)
def test_an_agent_is_well_or_it_says_why_not(case: dict[str, Any], reasons: tuple[str, ...]) -> None:
    well: dict[str, Any] = {"status": "active", "phase": "running", "cause": None, "said": {}, "hour": NONE}
    assert troubles(**(well | case)) == reasons
