"""Facts: paths, equality, templates and messages."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_contracts.catalogue import Fact
from countersign_contracts.templates import fill, fill_value, placeholders, stray_brace
from countersign_executor.facts import NoSuchValue, denial, lookup_args, same_json, value_at

ANSWER = {"customer": {"flags": [{"dnc": True}, {"dnc": False}], "name": None}, "n": 1, "a.b": 2}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def fact(equals: Any = True, path: str = "do_not_contact") -> Fact:
    return Fact.model_validate(
        {
            "name": "dnc",
            "tool": "get_customer",
            "args": {"customer_id": "{customer_id}", "view": "for-{env}", "depth": 2},
            "deny_when": {"path": path, "equals": equals},
            "message": "customer {customer_id} must not be contacted",
        }
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [("customer.flags.0.dnc", True), ("customer.flags.1.dnc", False), ("customer.name", None), ("n", 1)],
)
def test_a_path_leads_to_its_value(path: str, value: Any) -> None:
    assert value_at(ANSWER, path) == value


@pytest.mark.parametrize(
    "path", ["nope", "customer.flags.2", "customer.flags.-1", "n.x", "customer.flags.dnc", "", "a.b"]
)
def test_a_path_that_leads_nowhere_is_no_pass(path: str) -> None:
    with pytest.raises(NoSuchValue):
        value_at(ANSWER, path)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (True, True, True),
        (True, 1, False),
        (False, 0, False),
        (1, 1.0, True),
        ("1", 1, False),
        (None, None, True),
        (None, False, False),
        ([True], [1], False),
        ({"a": [1]}, {"a": [1.0]}, True),
        ({"a": True}, {"a": 1}, False),
        ([], {}, False),
    ],
)
def test_equality_is_jsons(left: Any, right: Any, same: bool) -> None:
    assert same_json(left, right) is same
    assert same_json(right, left) is same


@given(value=JSON)
def test_every_value_equals_itself(value: Any) -> None:
    assert same_json(value, value)


def test_a_fact_denies_with_its_message() -> None:
    reason = denial(fact(), {"do_not_contact": True}, {"customer_id": 7})
    assert reason is not None
    assert (reason.code, reason.policy, reason.message) == ("fact", "dnc", "customer 7 must not be contacted")
    assert denial(fact(), {"do_not_contact": False}, {"customer_id": 7}) is None
    assert denial(fact(), {"do_not_contact": 1}, {"customer_id": 7}) is None


def test_a_lookups_arguments_keep_their_types() -> None:
    assert lookup_args(fact(), {"customer_id": 7, "env": "prod"}) == {"customer_id": 7, "view": "for-prod", "depth": 2}


def test_templates_replace_and_never_evaluate() -> None:
    args = {"a": "{b}", "b": {"x": 1}, "c": [1]}
    assert fill("{a} {b} {c} {nope} {a.b} {0}", args) == '{b} {"x":1} [1] {nope} {a.b} {0}'
    assert fill_value("{b}", args) == {"x": 1}
    assert fill_value("x{c}", args) == "x[1]"
    assert fill_value(5, args) == 5
    assert placeholders("{a}-{b}-{a}") == ("a", "b", "a")
    assert stray_brace("{a} {-}") and not stray_brace("{a}")
