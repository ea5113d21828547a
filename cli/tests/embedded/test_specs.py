"""What is decided without any process: delays, giving up, the order."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_cli.embedded.child import Child, State, describe_ending
from countersign_cli.embedded.specs import RestartPolicy, Service, Spec, Step, check_specs


def nothing() -> int:
    return 0


def test_delays_double_up_to_the_ceiling() -> None:
    policy = RestartPolicy()
    assert [policy.delay(n) for n in range(1, 9)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


@given(st.integers(1, 10**9))
def test_no_number_of_failures_is_too_large(failures: int) -> None:
    assert 0.1 <= RestartPolicy().delay(failures) <= 5.0


def test_ten_seconds_of_health_forgive_all_failures() -> None:
    child = Child(Service("policy", nothing))
    for _ in range(5):
        child.note_death("", now=100.0)
    assert (child.failures, child.due) == (5, 101.6)
    child.note_ready(now=200.0)
    child.note_death("", now=209.9)
    assert child.failures == 6
    child.note_ready(now=300.0)
    child.note_death("", now=310.0)
    assert (child.failures, child.due, child.state) == (1, 310.1, State.WAITING)


def test_only_a_child_that_was_never_ready_is_given_up() -> None:
    child = Child(Service("policy", nothing))
    child.note_death("", now=0.0)
    child.note_death("", now=0.0)
    assert not child.gave_up()
    child.note_death("", now=0.0)
    assert child.gave_up()
    child.note_ready(now=0.0)
    child.note_death("a fault for people", now=1.0)
    assert not child.gave_up()


def test_a_fault_for_people_is_not_tried_again_nor_is_a_step() -> None:
    service, step = Child(Service("policy", nothing)), Child(Step("bootstrap", nothing))
    service.note_death("the port is in use", now=0.0)
    step.note_death("", now=0.0)
    assert service.gave_up()
    assert step.gave_up()


def test_what_may_pass_is_tried_again() -> None:
    child = Child(Service("policy", nothing))
    child.note_end(os.EX_TEMPFAIL)
    child.note_death("the database does not answer", now=0.0)
    assert not child.gave_up() and child.fault
    child.note_death("the database does not answer", now=0.0)
    child.note_death("the database does not answer", now=0.0)
    assert child.gave_up()


def test_what_comes_after_what_is_known_through_others() -> None:
    specs: list[Spec] = [
        Service("gateway", nothing, after=("bootstrap",)),
        Step("bootstrap", nothing, after=("nats", "postgres")),
        Service("nats", nothing),
        Service("postgres", nothing),
    ]
    assert check_specs(specs)["gateway"] == {"bootstrap", "nats", "postgres"}


@pytest.mark.parametrize(
    ("specs", "reason"),
    [
        ([Service("a", nothing), Step("a", nothing)], "two specs of one name"),
        ([Service("a", nothing, after=("b",))], "a is after b, which nobody runs"),
        ([Service("a", nothing, after=("b",)), Service("b", nothing, after=("a",))], "a -> b -> a"),
    ],
)
def test_specs_that_contradict_each_other_are_refused(specs: list[Spec], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_specs(specs)


@pytest.mark.parametrize(("code", "words"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "SIGKILL"), (-15, "SIGTERM")])
def test_an_ending_is_told_in_words(code: int, words: str) -> None:
    assert describe_ending(code) == words
