"""The numbers of open actions, and what they lead to: pure, by tables and by chance."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge

from countersign_contracts.actions import ActionRef
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.ids import new_id
from countersign_gateway.lifecycle import Change
from countersign_gateway.open_actions import Bounds, OpenActions, Tally, exceeded, retry_after_s, step

BOUNDS = Bounds(everybody=10, agent=4, agent_held=3)


def change(state: Any, agent_id: str = "a", approval_id: str | None = None) -> Change:
    ref = ActionRef(
        request_id=new_id(), agent_id=agent_id, env="dev", tool="t", tool_version=1, digest="sha256:" + "0" * 64
    )
    return Change(ref, state, approval_id=approval_id)


@pytest.mark.parametrize(
    ("working", "of_agent", "held_of_agent", "bound"),
    [
        (0, 0, 0, None),
        (9, 3, 2, None),
        (10, 3, 2, "everybody"),
        (9, 4, 2, "agent"),
        (10, 4, 3, "agent"),
        (9, 3, 3, "agent_held"),
        (50, 0, 0, "everybody"),
    ],
)
def test_which_bound_is_reached(working: int, of_agent: int, held_of_agent: int, bound: str | None) -> None:
    assert exceeded(BOUNDS, working=working, of_agent=of_agent, held_of_agent=held_of_agent) == bound


@pytest.mark.parametrize(
    ("under_way", "ended_per_s", "seconds"), [(2000, 1000, 1), (2000, 200, 5), (2000, 1, 10), (2000, 0, 10), (1, 9, 1)]
)
def test_callers_come_back_when_half_of_it_has_ended(under_way: int, ended_per_s: float, seconds: int) -> None:
    assert retry_after_s(under_way, ended_per_s, 10) == seconds


@pytest.mark.parametrize(
    ("state", "approval_id", "moves"),
    [
        ("held", "apr_1", ("working", "held")),
        ("granted", None, ("working", "working")),
        ("granted", "apr_1", ("held", "working")),
        ("executing", None, ("working", "working")),
        ("succeeded", None, ("working", None)),
        ("failed", None, ("working", None)),
        ("unknown", None, ("working", None)),
        ("denied", None, ("working", None)),
        ("denied", "apr_1", ("held", None)),
        ("expired", "apr_1", ("held", None)),
    ],
)
def test_what_each_state_does_to_the_numbers(state: str, approval_id: str | None, moves: tuple[Any, Any]) -> None:
    assert step(change(state, approval_id=approval_id)) == moves


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-3, 3))))
def test_the_sum_is_always_the_sum_and_nothing_is_below_zero(steps: list[tuple[str, int]]) -> None:
    tally = Tally()
    for agent_id, n in steps:
        tally.add(agent_id, n)
        assert tally.total == sum(tally.of.values())
        assert all(n > 0 for n in tally.of.values())


class Rows:
    """What the database would count."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, int]] = []
        self.meanwhile: Any = lambda: None

    async def open_counts(self) -> list[tuple[str, str, int]]:
        counted = list(self.rows)
        self.meanwhile()
        return counted


def made(**bounds: int) -> tuple[OpenActions, Rows]:
    settings: Any = SimpleNamespace(
        **{"max_open": 10, "max_open_per_agent": 4, "max_held_per_agent": 3, "come_back_max_s": 7} | bounds
    )
    registry, rows = CollectorRegistry(), Rows()
    gauge = Gauge("g", "g", ["state"], registry=registry)
    store: Any = rows
    return OpenActions(settings, store, gauge, Counter("c", "c", ["bound"], registry=registry)), rows


async def test_nothing_is_taken_before_the_rows_were_counted() -> None:
    open_actions, _ = made()
    with pytest.raises(Unavailable):
        open_actions.reserve("a")
    await open_actions.recount()
    open_actions.reserve("a")


async def test_a_restart_finds_what_is_under_way() -> None:
    open_actions, rows = made()
    rows.rows = [("a", "accepted", 2), ("a", "executing", 2), ("b", "held", 3), ("c", "held", 2)]
    await open_actions.recount()
    assert [open_actions.exceeded(agent) for agent in "abcd"] == ["agent", "agent_held", None, None]
    with pytest.raises(CountersignError, match="agent b has 3 actions waiting for approval") as refused:
        open_actions.check("b")
    assert refused.value.code == "overloaded" and refused.value.extra == {"retry_after_s": 7}


async def test_what_is_being_stored_holds_its_place_and_gives_it_back_if_it_was_not_new() -> None:
    open_actions, _ = made()
    await open_actions.recount()
    for _n in range(4):
        open_actions.reserve("a")
    assert open_actions.exceeded("a") == "agent"
    open_actions.settle("a", accepted=False)
    assert open_actions.exceeded("a") is None
    open_actions.settle("a", accepted=True)
    assert open_actions.exceeded("a") is None  # two reserved, one accepted
    open_actions.reserve("a")
    assert open_actions.exceeded("a") == "agent"


async def test_what_changes_while_the_database_counts_is_not_lost() -> None:
    open_actions, rows = made()
    await open_actions.recount()
    rows.rows = [("a", "accepted", 3)]

    def one_more() -> None:
        open_actions.reserve("a")
        open_actions.settle("a", accepted=True)

    rows.meanwhile = one_more
    await open_actions.recount()
    assert open_actions.exceeded("a") == "agent"
    open_actions.moved([change("succeeded")])
    assert open_actions.exceeded("a") is None


async def test_the_queue_is_told_how_much_room_there_is_and_waits_for_some() -> None:
    import asyncio

    open_actions, rows = made(max_open=2)
    rows.rows = [("a", "accepted", 2), ("b", "held", 2)]
    await open_actions.recount()
    waiting = asyncio.create_task(open_actions.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    open_actions.moved([change("failed")])
    assert await waiting == 1
