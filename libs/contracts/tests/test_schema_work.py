"""What a schema may cost: doubling and endless ones are found at once, what people write is taken."""

from __future__ import annotations

import time
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_contracts.schema_work import DEEPEST, MOST_LOOKS, TooMuchWork, levels_of, most_looks, values_in


def chain(length: int, step: Any) -> dict[str, Any]:
    """``$defs`` of which each refers to the next as ``step`` says."""
    steps = {f"d{n}": step({"$ref": f"#/$defs/d{n + 1}"}) for n in range(length)}
    properties = {"a": {"$ref": "#/$defs/d0"}}
    return {"type": "object", "properties": properties, "$defs": steps | {f"d{length}": {"type": "integer"}}}


def tree(step: Any) -> dict[str, Any]:
    """A node with children of its own kind."""
    return {"$ref": "#/$defs/node", "$defs": {"node": {"properties": {"c": step({"$ref": "#/$defs/node"})}}}}


DOUBLING: dict[str, Any] = {
    "allOf": lambda next: {"allOf": [next, dict(next)]},
    "anyOf": lambda next: {"anyOf": [next, dict(next)]},
    "oneOf": lambda next: {"oneOf": [next, dict(next)]},
    "beside": lambda next: {**next, "not": dict(next)},
    "conditions": lambda next: {"if": next, "then": dict(next), "else": dict(next)},
    "unevaluated": lambda next: {"allOf": [next], "unevaluatedProperties": False},
    "by name": lambda next: {"dependentSchemas": {"x": next, "y": dict(next)}},
    "by name, of old": lambda next: {"dependencies": {"x": next, "y": dict(next), "z": ["x"]}},
}


@pytest.mark.parametrize("name", DOUBLING)
def test_what_doubles_is_found_at_once(name: str) -> None:
    step = DOUBLING[name]
    began = time.process_time()
    for schema in (chain(200, step), *([] if name == "unevaluated" else [tree(step)])):
        with pytest.raises(TooMuchWork, match=f"more than {MOST_LOOKS} of its parts"):
            most_looks(schema)
    assert most_looks(chain(3, step)) < 100
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "step",
    [
        lambda next: {"patternProperties": {"^a": next, "a$": dict(next)}},
        lambda next: {"properties": {"a": next}, "patternProperties": {"^a": dict(next)}},
        lambda next: {"items": next, "contains": dict(next)},
        lambda next: {"prefixItems": [next], "contains": dict(next)},
        lambda next: {"items": [next], "additionalItems": dict(next)},
        lambda next: {"additionalProperties": next, "patternProperties": {"a": dict(next)}},
    ],
)
def test_so_is_what_doubles_from_level_to_level(step: Any) -> None:
    node = {"$ref": "#"}
    with pytest.raises(TooMuchWork, match="parts could look at one value"):
        most_looks(step(node))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"not": {"$ref": "#/$defs/x"}}}},
        {"properties": {"a": {"$ref": "#x"}}, "$defs": {"x": {"$anchor": "x", "anyOf": [{"$dynamicRef": "#x"}]}}},
        {"properties": {"a": {"$ref": "#/$defs/y/allOf/0"}}, "$defs": {"y": {"allOf": [{"$ref": "#/$defs/y"}]}}},
        {"properties": {"a/b": {"$ref": "#/properties/a~1b"}}},
        {"properties": {"a": {"$ref": "#/$defs/%78"}}, "$defs": {"x": {"$ref": "#/$defs/x"}}},
    ],
)
def test_so_is_what_never_ends(schema: dict[str, Any]) -> None:
    with pytest.raises(TooMuchWork, match="without end"):
        most_looks(schema)


def test_long_ways_are_followed_and_other_bases_are_not() -> None:
    assert most_looks(chain(1500, lambda next: next)) == 1503
    with pytest.raises(TooMuchWork, match="`\\$id`"):
        most_looks({"properties": {"a": {"$id": "urn:x", "$ref": "#/$defs/y"}}})
    assert most_looks({"$id": "urn:x", "properties": {"$id": {"type": "string"}}}) == 2


def test_what_people_write_is_taken() -> None:
    line = {"type": "object", "properties": {"sku": {"type": "string"}, "n": {"type": ["integer", "null"]}}}
    money = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": "^[0-9]+$"}, {"type": "null"}]}
    kinds = [{"properties": {"kind": {"const": f"k{n}"}, "lines": {"items": line}, "sum": money}} for n in range(60)]
    assert most_looks({"type": "object", "properties": {"order": {"oneOf": kinds}}}) < MOST_LOOKS / 3
    assert most_looks(tree(lambda next: next)) == 2 + 2 * DEEPEST
    assert most_looks(tree(lambda next: {"items": next})) <= 3 * DEEPEST
    assert most_looks(tree(DOUBLING["unevaluated"])) < 10 * DEEPEST, "each level is looked at again, not what is within"
    assert most_looks({"$ref": "#/$defs/none"}) == 2, "whoever makes the validator says that it is not there"
    oddities: list[dict[str, Any]] = [{"properties": 3}, {"allOf": {}}, {"items": None}, {"$ref": 3}]
    for odd in oddities:
        assert most_looks(odd) >= 1


@given(
    st.recursive(
        st.sampled_from([True, {"type": "integer"}, {"$ref": "#"}, {"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}]),
        lambda inner: (
            st.dictionaries(
                st.sampled_from(["not", "if", "items", "additionalProperties", "contains"]), inner, max_size=3
            )
            | st.builds(
                lambda how, each, more: {how: each, **more},
                st.sampled_from(["allOf", "anyOf", "oneOf"]),
                st.lists(inner, min_size=1, max_size=3),
                st.sampled_from([{}, {"unevaluatedProperties": False}, {"unevaluatedItems": {"type": "string"}}]),
            )
            | st.builds(lambda each: {"properties": {"c": each}}, inner)
        ),
        max_leaves=12,
    ),
    st.lists(st.sampled_from("ci"), max_size=DEEPEST),
)
def test_whatever_is_taken_is_checked_in_no_time(schema: Any, path: list[str]) -> None:
    value: Any = 1
    for step in path:
        value = {"c": value} if step == "c" else [value]
    schema = {"properties": {"c": schema}, "$defs": {"a": schema, "b": {"items": schema}}}
    try:
        most_looks(schema)
    except TooMuchWork:
        return
    validator = jsonschema_rs.Draft202012Validator(schema, offline=True)
    began = time.process_time()
    validator.is_valid(value)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("value", "count", "levels"),
    [(1, 1, 1), ({}, 1, 1), ([1, [2, {"a": 3}]], 6, 4), ({"a": {"b": [None, "x"]}}, 5, 4), ("abc", 1, 1)],
)
def test_values_and_levels_are_counted(value: Any, count: int, levels: int) -> None:
    assert (values_in(value), levels_of(value)) == (count, levels)
