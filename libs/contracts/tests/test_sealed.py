"""What stands for a sealed value: bound to its place, recognisable by its mark, never an agent's to say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_contracts.errors import Malformed
from countersign_contracts.sealed import (
    KEY,
    SEALED_SCHEMA,
    Place,
    box_of,
    box_text,
    has_sealed,
    mark_text,
    pointer,
    sealed,
    shown,
    value_for,
    withheld,
)

PLACE = Place("01a1fc36-1925-73c1-a432-74efefece349", "bot", "pay", "/card")
BOX = "b" * 64
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON)
def test_a_value_comes_back_for_its_place(value: Any) -> None:
    assert value_for(box_text(value, PLACE), PLACE) == value


@pytest.mark.parametrize("name", ["request_id", "agent_id", "tool", "path"])
def test_a_value_is_for_its_place_alone(name: str) -> None:
    with pytest.raises(Malformed) as refused:
        value_for(box_text("hunter2", PLACE), replace(PLACE, **{name: "other"}))
    assert refused.value.detail == f"it was sealed for another {name}"


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'"hunter2"', b'{"value": "hunter2"}', b'{"hunter2"'])
def test_what_is_no_sealed_value_is_told_without_it(text: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        value_for(text, PLACE)
    assert "hunter2" not in str(refused.value)


def test_a_mark_is_of_the_value_the_tool_and_the_argument_and_nothing_else() -> None:
    """Golden: RFC 8785 sorts the names."""
    assert mark_text({"b": 1, "a": "x"}, PLACE) == b'{"path":"/card","tool":"pay","value":{"a":"x","b":1}}'
    assert mark_text("x", PLACE) == mark_text("x", replace(PLACE, request_id="r", agent_id="a"))
    assert mark_text("x", PLACE) != mark_text("x", replace(PLACE, tool="t"))
    assert mark_text("x", PLACE) != mark_text("x", replace(PLACE, path="/p"))


@pytest.mark.parametrize("value", ["hunter2\ud800", {"hunter2": 2**60}])
def test_a_value_without_a_canonical_form_is_told_by_its_place(value: Any) -> None:
    with pytest.raises(Malformed, match=r"`/card` has no canonical JSON form") as refused:
        mark_text(value, PLACE)
    assert "hunter2" not in str(refused.value)


def test_the_schema_takes_sealed_values_and_nothing_else() -> None:
    schema = jsonschema_rs.Draft202012Validator(SEALED_SCHEMA)
    good = sealed(BOX, bytes(32))
    assert schema.is_valid(good) and box_of(good) == BOX
    for other in (
        "text",
        None,
        withheld(),
        {KEY: BOX},
        good | {"more": 1},
        good | {"mark": "x"},
        good | {KEY: "short"},
    ):
        assert not schema.is_valid(other)
    assert [box_of(other) for other in ("text", None, withheld(), {KEY: BOX}, good | {"more": 1})] == [None] * 5


def test_people_are_shown_that_it_is_there_and_whether_it_is_the_same() -> None:
    args = {"a": 1, "b": [sealed(BOX, b"\xab" * 32)], "c": {"d": withheld()}}
    assert has_sealed(args) and not has_sealed({"a": [1, {"b": None}]})
    assert shown(args) == {
        "a": 1,
        "b": ["[sensitive] abababab: cannot be shown here, equal values have equal digits"],
        "c": {"d": "[withheld] the tool declares no such argument"},
    }


def test_a_pointer_escapes_what_has_a_meaning() -> None:
    assert pointer("a/b", "c~d") == "/a~1b/c~0d"
