"""Approving with changes: what may be narrowed, and how. Narrower is never wider."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_approvals.amending import amended
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import new_id
from countersign_contracts.sealed import sealed

from .conftest import held

ALLOWED: Any = {"amount": "lower", "items": "subset", "note": "remove", "pin": "lower", "rate": "lower"}
ARGS: dict[str, Any] = {
    "amount": 100,
    "rate": 1.5,
    "items": ["a", "b", "a", 1],
    "note": "x",
    "iban": "DE1",
    "pin": sealed("x" * 64, b"0" * 32),
}


def change(**changes: Any) -> dict[str, Any]:
    return amended(held(**ARGS).action, changes, ALLOWED, by="alice", request_id=new_id()).args


@pytest.mark.parametrize(
    ("name", "value"),
    [("amount", 99), ("amount", 0), ("rate", 1), ("rate", 0.5), ("items", ["a"]), ("items", ["b", 1])],
)
def test_what_may_be_narrowed(name: str, value: Any) -> None:
    assert change(**{name: value}) == ARGS | {name: value}


def test_what_may_be_left_out_is_left_out() -> None:
    assert change(note=None) == {name: value for name, value in ARGS.items() if name != "note"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"amount": 100}, "lowered"),
        ({"amount": 101}, "lowered"),
        ({"amount": -1}, "at least 0"),
        ({"amount": 50.5}, "of its kind"),
        ({"amount": "50"}, "of its kind"),
        ({"amount": True}, "of its kind"),
        ({"amount": None}, "of its kind"),
        ({"items": []}, "at least one"),
        ({"items": ["a", "b", "a", 1]}, "some of its items"),
        ({"items": ["c"]}, "some of its items"),
        ({"items": ["b", "b"]}, "some of its items"),
        ({"items": [1, "a"]}, "in their order"),
        ({"items": [True]}, "some of its items"),
        ({"items": "a"}, "list"),
        ({"note": "y"}, "left out"),
        ({"iban": "DE2"}, "may not be changed"),
        ({"nothing": 1}, "may not be changed"),
        ({"pin": 1}, "sensitive"),
        ({"amount": 50, "iban": "DE2"}, "may not be changed"),
        ({}, "change nothing"),
    ],
)
def test_what_may_not(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(CountersignError, match=why) as refused:
        change(**changes)
    assert refused.value.code == "invalid"


def test_what_is_not_given_cannot_be_narrowed() -> None:
    with pytest.raises(CountersignError, match="not given"):
        amended(held(n=1).action, {"amount": 1}, ALLOWED, by="alice", request_id=new_id())


def test_the_new_action_has_the_digest_of_its_arguments() -> None:
    event = held(**ARGS)
    made = amended(event.action, {"amount": 1}, ALLOWED, by="alice", request_id=new_id())
    assert event.action.model_copy(update={"args": made.args}).computed_digest() == made.digest != event.action.digest


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.lists(st.integers(0, 3), max_size=6))
def test_a_subset_is_what_is_left_when_items_are_struck_out(before: list[int], after: list[int]) -> None:
    rest = iter(before)
    left_over = 0 < len(after) < len(before) and all(item in rest for item in after)
    try:
        amended(held(items=before).action, {"items": after}, ALLOWED, by="a", request_id=new_id())
        assert left_over
    except CountersignError:
        assert not left_over
