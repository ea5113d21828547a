"""Marks hold where everybody finds the same places without evaluating the schema; anywhere else they are mistakes."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from countersign_contracts.sealed import sealed
from countersign_contracts.sensitive import Marks, read_marks, sealed_schema, shown_schema

SECRET = {"type": "string", "x-sensitive": True}
SEALED = sealed("b" * 64, bytes(32))


def schema(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties, **more}


NESTED = schema(
    {"to": {"type": "integer"}, "card": schema({"name": {"type": "string"}, "number": SECRET}), "pin": SECRET}
)


def test_marks_are_found_on_properties_and_within_objects() -> None:
    marks, wrong = read_marks(NESTED)
    assert not wrong and marks
    assert marks == Marks(
        frozenset({"to", "card", "pin"}),
        frozenset({"pin"}),
        {"card": Marks(frozenset({"name", "number"}), frozenset({"number"}))},
    )
    assert marks.holding == {"pin", "card"}


@pytest.mark.parametrize(
    "arguments", [{}, {"type": "object"}, schema({}), schema({"a": True}), schema({"a": {"x-sensitive": False}})]
)
def test_without_a_mark_nothing_is_sensitive(arguments: dict[str, Any]) -> None:
    marks, wrong = read_marks(arguments)
    assert not marks and not wrong


def test_the_rest_of_the_arguments_is_checked_while_they_are_sealed() -> None:
    marks, _ = read_marks(NESTED)
    travelling = jsonschema_rs.Draft202012Validator(sealed_schema(NESTED, marks))
    assert travelling.is_valid({"to": 1, "pin": SEALED, "card": {"name": "Ada", "number": SEALED}})
    for wrong in ({"pin": "1234"}, {"to": "x"}, {"card": {"number": "4111"}}, {"card": SEALED}, {"to": SEALED}):
        assert not travelling.is_valid(wrong)


def test_others_see_the_arguments_without_the_sensitive_ones() -> None:
    marks, _ = read_marks(NESTED)
    assert shown_schema(NESTED, marks)["properties"] == {
        "to": {"type": "integer"},
        "card": schema({"name": {"type": "string"}}),
    }
    assert "pin" in NESTED["properties"], "the tool's own schema stays as it is"


@pytest.mark.parametrize(
    ("arguments", "loc"),
    [
        (schema({"a": SECRET}, **{"x-sensitive": True}), ("x-sensitive",)),
        (schema({"a": {"x-sensitive": "yes"}}), ("properties", "a", "x-sensitive")),
        (schema({"a": {"type": "array", "items": SECRET}}), ("properties", "a", "items", "x-sensitive")),
        (schema({"a": {"anyOf": [SECRET]}}), ("properties", "a", "anyOf", 0, "x-sensitive")),
        (schema({"a": {"$ref": "#/$defs/s"}}, **{"$defs": {"s": SECRET}}), ("$defs", "s", "x-sensitive")),
        (schema({}, patternProperties={"^a": SECRET}), ("patternProperties", "^a", "x-sensitive")),
        (schema({}, additionalProperties=SECRET), ("additionalProperties", "x-sensitive")),
        (schema({"a": SECRET}, additionalProperties=True), ("additionalProperties",)),
        ({"type": "object", "properties": {"a": SECRET}}, ("additionalProperties",)),
        ({"additionalProperties": False, "properties": {"a": SECRET}}, ("type",)),
        (schema({"a": schema({"b": SECRET}, type=["object", "null"])}), ("properties", "a", "type")),
        *[
            (schema({"a": SECRET}, **{key: value}), (key,))
            for key, value in {
                "if": {"properties": {"a": {"const": "x"}}},
                "allOf": [{}],
                "not": {},
                "const": {"a": "x"},
                "enum": [{"a": "x"}],
                "$ref": "#/$defs/x",
                "dependentSchemas": {"a": {}},
                "patternProperties": {"a": {}},
            }.items()
        ],
    ],
)
def test_a_mark_that_would_not_hold_is_told_with_its_place(arguments: dict[str, Any], loc: tuple[Any, ...]) -> None:
    _, wrong = read_marks(arguments)
    assert loc in [each.loc for each in wrong] and all(each.message and each.allowed for each in wrong)


def test_names_and_data_that_look_like_a_mark_are_none() -> None:
    arguments = schema({"x-sensitive": {"type": "boolean", "default": {"x-sensitive": True}}, "b": {"enum": [SECRET]}})
    assert read_marks(arguments) == (Marks(frozenset({"x-sensitive", "b"})), ())
