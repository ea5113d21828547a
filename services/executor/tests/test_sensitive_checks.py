"""A tool that could not keep its sensitive arguments is not applied, and told where."""

from __future__ import annotations

from typing import Any

import pytest

from .test_catalogue_checks import CHANGE_ITEM, GET_CUSTOMER, changed, plan

NOTE = {"type": "object", "x-sensitive": True}
MARKED = changed(CHANGE_ITEM, "arguments/properties/note", NOTE)


def test_a_sensitive_argument_in_the_body_is_sound() -> None:
    assert plan(MARKED, GET_CUSTOMER).plan.errors == ()


@pytest.mark.parametrize(
    ("name", "field", "message"),
    [
        ("item", "http.path.0", "`item` is sensitive, and URLs are kept in logs on the way"),
        ("item", "resource", "`item` is sensitive, and people are shown the resource"),
        ("customer", "preview", "`customer` is sensitive, and people are shown the preview"),
        ("verbose", "http.query.0", "`verbose` is sensitive, and URLs are kept"),
        ("customer", "facts.0.args.id", "`customer` is sensitive: a fact is looked up"),
        ("customer", "facts.0.message", "`customer` is sensitive: a fact is looked up, and told of, in the clear"),
    ],
)
def test_a_sensitive_argument_has_no_other_place(name: str, field: str, message: str) -> None:
    found = plan(changed(CHANGE_ITEM, f"arguments/properties/{name}/x-sensitive", True), GET_CUSTOMER).plan.errors
    assert any(error.field == field and message in error.message and error.line for error in found), found


def test_risk_does_not_depend_on_it() -> None:
    found = plan(changed(MARKED, "destructive_when", [{"field": "note", "present": True}]), GET_CUSTOMER).plan.errors
    assert [(e.field, "policy, which asks for the risk, cannot read it" in e.message) for e in found] == [
        ("destructive_when.0.field", True)
    ]


def test_a_fact_gives_no_sensitive_argument() -> None:
    lookup = {
        **GET_CUSTOMER,
        "arguments": changed(GET_CUSTOMER["arguments"], "properties/id/x-sensitive", True),
        "http": {"method": "POST", "url": "https://api.example.com/customers", "body": ["id"]},
    }
    found = plan(CHANGE_ITEM, lookup).plan.errors
    assert any("what a fact gives is in the clear" in e.message for e in found), found


@pytest.mark.parametrize(
    ("path", "to", "field"),
    [
        ("arguments/properties/verbose/items/x-sensitive", True, "arguments.properties.verbose.items.x-sensitive"),
        ("arguments/properties/note/x-sensitive", "yes", "arguments.properties.note.x-sensitive"),
        ("arguments/allOf", [{}], "arguments.allOf"),
    ],
)
def test_a_mark_that_would_not_hold_is_told_with_its_place(path: str, to: Any, field: str) -> None:
    found = plan(changed(MARKED, path, to), GET_CUSTOMER).plan.errors
    assert field in [error.field for error in found], found
