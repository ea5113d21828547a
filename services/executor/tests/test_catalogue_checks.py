"""Every mistake in a declared tool is told with its place and what would be right; a sound change grows versions."""

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from countersign_contracts.catalogue import Document, Tool, ToolRecord
from countersign_executor.change import MAX_PLAN_BYTES, Catalogue, Change, plan_change
from countersign_executor.secrets import Secrets

TICKETING = Path(__file__).parents[3] / "examples" / "ticketing" / "countersign" / "tools"
EMPTY = Catalogue({}, 0)
SECRETS = Secrets({"API_KEY": "hunter2hunter2", "CRM": "hunter3hunter3"}, {"CRM": "crm.example.com"})

CHANGE_ITEM: dict[str, Any] = {
    "kind": "tool",
    "name": "change_item",
    "effect": "write",
    "resource": "items/{item}",
    "preview": "Change {item} of {customer}: {verbose}",
    "arguments": {
        "type": "object",
        "additionalProperties": False,
        "required": ["item", "customer"],
        "properties": {
            "item": {"type": "string"},
            "customer": {"type": "integer"},
            "verbose": {"type": "array", "items": {"type": "string"}},
            "note": {"type": "object"},
        },
    },
    "http": {
        "method": "POST",
        "url": "https://api.example.com/items/{item}",
        "path": ["item"],
        "query": ["verbose"],
        "body": ["note", "customer"],
        "headers": {"Authorization": "Bearer ${secret:API_KEY}"},
    },
    "facts": [
        {
            "name": "dnc",
            "tool": "get_customer",
            "args": {"id": "{customer}"},
            "deny_when": {"path": "do_not_contact", "equals": True},
            "message": "customer {customer} must not be contacted",
        }
    ],
}
GET_CUSTOMER: dict[str, Any] = {
    "kind": "tool",
    "name": "get_customer",
    "effect": "read",
    "arguments": {
        "type": "object",
        "additionalProperties": False,
        "required": ["id"],
        "properties": {"id": {"type": "integer"}},
    },
    "http": {"method": "GET", "url": "https://api.example.com/customers/{id}", "path": ["id"]},
}


def document(value: dict[str, Any], path: str = "tools/x.yaml") -> Document:
    return Document(path=path, text=yaml.safe_dump(value, sort_keys=False))


def plan(*values: dict[str, Any], catalogue: Catalogue = EMPTY) -> Change:
    documents = [document(value, f"tools/{value['name']}.yaml") for value in values]
    return plan_change(documents, catalogue, SECRETS)


def changed(value: dict[str, Any], path: str, to: Any) -> dict[str, Any]:
    """A copy with the value at a dotted path replaced; ``...`` removes it."""
    copy: dict[str, Any] = orjson.loads(orjson.dumps(value))
    at: Any = copy
    *way, last = [int(part) if part.isdecimal() else part for part in path.split("/")]
    for part in way:
        at = at[part]
    if to is ...:
        del at[last]
    else:
        at[last] = to
    return copy


def catalogue_of(change: Change, revision: int = 1) -> Catalogue:
    return Catalogue({record.tool.name: record for record in change.records}, revision)


def test_sound_tools_have_no_errors() -> None:
    change = plan(CHANGE_ITEM, GET_CUSTOMER)
    assert change.plan.errors == ()
    assert [(c.name, c.action) for c in change.plan.changes] == [("change_item", "create"), ("get_customer", "create")]
    assert [(r.version, r.revision) for r in change.records] == [(1, 1), (1, 1)]


def test_the_examples_tools_are_sound() -> None:
    documents = [Document(path=path.name, text=path.read_text()) for path in sorted(TICKETING.glob("*.yaml"))]
    assert documents
    assert plan_change(documents, EMPTY, Secrets()).plan.errors == ()


@pytest.mark.parametrize(
    ("path", "to", "field", "message"),
    [
        ("arguments/type", "array", "arguments.type", "an object"),
        ("arguments/additionalProperties", ..., "arguments.additionalProperties", "no place to go"),
        ("arguments/additionalProperties", True, "arguments.additionalProperties", "no place to go"),
        ("arguments/properties/item/type", "strin", "arguments.properties.item.type", "not a JSON Schema"),
        ("arguments/properties/item", {"pattern": "("}, "arguments.properties.item.pattern", "not a JSON Schema"),
        ("arguments/properties/item", {"$ref": "#/$defs/x"}, "arguments", "not a JSON Schema"),
        ("arguments/properties/note", {"allOf": [{"$ref": "#"}] * 2}, "arguments", "more than 2000 of its parts"),
        ("arguments/properties/note", {"$ref": "#/properties/note"}, "arguments", "without end"),
        ("arguments/properties/note", {"$ref": "http://127.0.0.1:9/x"}, "arguments.properties.note.$ref", "outside"),
        ("arguments/properties/stray", {"type": "string"}, "arguments.properties.stray", "goes nowhere"),
        ("arguments/properties/item/type", "object", "http.path.0", "a type that fits there"),
        ("arguments/properties/item", {"type": "array", "items": {"type": "string"}}, "http.path.0", "fits there"),
        ("arguments/properties/verbose", {"type": "object"}, "http.query.0", "fits there"),
        ("arguments/required", ["customer"], "http.path.0", "must be required"),
        ("arguments/required", ["item"], "facts.0.args.id", "must be required"),
        ("http/body", ["note", "customer", "nope"], "http.body.2", "not an argument"),
        ("http/body", ["note", "customer", "item"], "http.body.2", "already has its place"),
        ("http/url", "https://api.example.com/items", "http.path", "no `{item}`"),
        ("http/url", "ftp://api.example.com/items/{item}", "http.url", "scheme"),
        ("http/url", "http://127.0.0.1:8000/items/{item}", "http.url", "allow_private"),
        ("http/url", "http://169.254.169.254/items/{item}", "http.url", "nobody may reach"),
        ("http/url", "http://[::ffff:10.0.0.1]/items/{item}", "http.url", "allow_private"),
        ("http/method", "GET", "http.body", "no body"),
        ("http/headers", {"Authorization": "${secret:NOPE}"}, "http.headers.Authorization", "no secret `NOPE`"),
        (
            "http/headers",
            {"Authorization": "${secret:CRM}"},
            "http.headers.Authorization",
            "not for api.example.com",
        ),
        ("http/headers", {"Authorization": "${env:HOME}"}, "http.headers.Authorization", "refers to a secret"),
        ("http/headers", {"Idempotency-Key": "x"}, "http.headers.Idempotency-Key", "set by Countersign"),
        ("http/headers", {"host": "evil"}, "http.headers.host", "set by Countersign"),
        ("http/headers", {"X A": "1"}, "http.headers.X A", "cannot name a header"),
        ("http/headers", {"X-A": "1\r\nX-B: 2"}, "http.headers.X-A", "one line"),
        ("http/headers", {"X-A": "1", "x-a": "2"}, "http.headers.x-a", "twice"),
        ("resource", "items/{nope}", "resource", "not an argument"),
        ("resource", "items/{note}", "resource", "must be required"),
        ("resource", "items/{item", "resource", "a brace stands there"),
        ("preview", "Change {nope}", "preview", "not an argument"),
        ("preview", "Change {item} to {}", "preview", "a brace stands there"),
        ("destructive_when", [{"field": "nope", "equals": 1}], "destructive_when.0.field", "not an argument"),
        ("destructive_when", [{"field": "note", "equals": None}], "destructive_when.0.equals", "null"),
        ("facts/0/tool", "nope", "facts.0.tool", "no tool `nope`"),
        ("facts/0/tool", "change_item", "facts.0.tool", "only reads"),
        ("facts/0/args", {}, "facts.0.args", "needs the argument `id`"),
        ("facts/0/args", {"id": 1, "nope": 2}, "facts.0.args", "no argument `nope`"),
        ("facts/0/args", {"id": "{nope}"}, "facts.0.args.id", "not an argument of"),
        ("facts/0/message", "{nope}", "facts.0.message", "not an argument of"),
        ("facts/0/deny_when/equals", None, "facts.0.deny_when.equals", "null"),
    ],
)
def test_a_mistake_is_told_with_its_place(path: str, to: Any, field: str, message: str) -> None:
    change = plan(changed(CHANGE_ITEM, path, to), GET_CUSTOMER)
    found = {(error.field, error.message) for error in change.plan.errors}
    assert any(where == field and message in what for where, what in found), found
    assert all(error.path == "tools/change_item.yaml" and error.line for error in change.plan.errors)
    assert change.records == ()


def test_an_error_names_the_line() -> None:
    text = "kind: tool\nname: a\neffect: read\narguments:\n  type: object\n  additionalProperties: false\n"
    text += "http:\n  method: GET\n  url: https://h/\n  headers:\n    Host: x\n"
    (error,) = plan_change([Document(path="a.yaml", text=text)], EMPTY, Secrets()).plan.errors
    assert (error.line, error.field) == (11, "http.headers.Host")


def test_one_bad_file_leaves_everything_as_it_is() -> None:
    change = plan(CHANGE_ITEM, GET_CUSTOMER, {"kind": "tool", "name": "broken"})
    assert change.plan.errors and change.records == () and change.plan.changes == ()


def test_the_version_grows_only_with_the_content() -> None:
    before = catalogue_of(plan(CHANGE_ITEM, GET_CUSTOMER))
    again = plan(CHANGE_ITEM, changed(GET_CUSTOMER, "http/timeout_s", 10), catalogue=before)
    assert again.records == ()
    assert {c.action for c in again.plan.changes} == {"unchanged"}
    grown = plan(changed(CHANGE_ITEM, "http/timeout_s", 3), GET_CUSTOMER, catalogue=before)
    assert [(r.tool.name, r.version, r.revision) for r in grown.records] == [("change_item", 2, 2)]
    update = grown.plan.changes[0]
    assert update.action == "update" and update.before is not None and update.after is not None
    assert (update.before["http"]["timeout_s"], update.after["http"]["timeout_s"]) == (10, 3)
    assert grown.plan.base == "1"


def test_tools_in_the_catalogue_count_as_present() -> None:
    before = catalogue_of(plan(GET_CUSTOMER))
    assert plan(CHANGE_ITEM, catalogue=before).plan.errors == ()


@pytest.mark.parametrize(("path", "to"), [("effect", "write"), ("arguments/required", ["id", "more"])])
def test_a_change_may_not_break_the_facts_of_others(path: str, to: Any) -> None:
    before = catalogue_of(plan(CHANGE_ITEM, GET_CUSTOMER))
    broken = changed(GET_CUSTOMER, path, to)
    if to == ["id", "more"]:
        broken = changed(broken, "arguments/properties/more", {"type": "string"})
        broken = changed(broken, "http/query", ["more"])
    (error,) = plan(broken, catalogue=before).plan.errors
    assert "tool `change_item` looks up its fact `dnc` here" in error.message
    assert plan(broken, changed(CHANGE_ITEM, "facts", []), catalogue=before).plan.errors == ()


def test_documents_of_other_kinds_are_not_ours() -> None:
    profile = {"kind": "profile", "name": "p", "environments": ["prod"], "tools": ["nope"]}
    change = plan(profile, GET_CUSTOMER)
    assert change.plan.errors == () and [c.name for c in change.plan.changes] == ["get_customer"]


def test_a_plan_too_large_for_a_message_shows_digests() -> None:
    big = [
        changed(GET_CUSTOMER, "name", f"tool_{n}") | {"description": "x" * 2000} for n in range(MAX_PLAN_BYTES // 2000)
    ]
    change = plan(*big)
    assert len(change.plan.to_bytes()) < MAX_PLAN_BYTES
    assert len(change.records) == len(big)
    first = change.plan.changes[0]
    assert first.after is not None and set(first.after) == {"name", "sha256"} and first.before is None


def test_a_tool_survives_its_way_through_the_tables_and_the_bus() -> None:
    record = plan(changed(CHANGE_ITEM, "destructive_when", [{"field": "note", "in": [1]}]), GET_CUSTOMER).records[0]
    assert Tool.from_bytes(record.tool.to_bytes()) == record.tool
    assert ToolRecord.from_bytes(record.to_bytes()) == record
