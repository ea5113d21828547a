"""What agents are seen to do: the table, and any order of signs."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_contracts.fleet import AgentPhase
from countersign_registry.phases import Sign, is_silent, phases_after, sign_of

#: Every transition that there is.
TRANSITIONS: frozenset[tuple[AgentPhase, AgentPhase]] = frozenset(
    {
        ("registered", "running"),
        ("running", "stopped"),
        ("stopped", "running"),
        ("running", "failed"),
        ("failed", "running"),
    }
)


@pytest.mark.parametrize(
    ("before", "sign", "after"),
    [
        ("registered", "alive", ("running",)),
        ("registered", "stopping", ("running", "stopped")),
        ("registered", "silent", ()),
        ("running", "alive", ()),
        ("running", "stopping", ("stopped",)),
        ("running", "silent", ("failed",)),
        ("stopped", "alive", ("running",)),
        ("stopped", "stopping", ()),
        ("stopped", "silent", ()),
        ("failed", "alive", ("running",)),
        ("failed", "stopping", ("running", "stopped")),
        ("failed", "silent", ()),
    ],
)
def test_what_a_sign_changes(before: AgentPhase, sign: Sign, after: tuple[AgentPhase, ...]) -> None:
    assert phases_after(before, sign) == after


@given(st.lists(st.sampled_from(get_args(Sign)), max_size=20))
def test_whatever_is_seen_every_step_is_a_transition_that_there_is(signs: list[Sign]) -> None:
    phase: AgentPhase = "registered"
    for sign in signs:
        for after in phases_after(phase, sign):
            assert (phase, after) in TRANSITIONS
            phase = after
        assert phases_after(phase, sign) == (), "the same sign again changes nothing"


def test_the_third_heartbeat_that_is_missing_is_too_many() -> None:
    assert not is_silent(2.4 * 30, 30)
    assert is_silent(2.6 * 30, 30)


@pytest.mark.parametrize(("status", "sign"), [("healthy", "alive"), ("stopping", "stopping"), (None, "alive")])
def test_an_agent_ends_in_order_by_saying_so(status: str | None, sign: Sign) -> None:
    assert sign_of({} if status is None else {"status": status}) == sign
