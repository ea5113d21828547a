"""A rule that would have to look at a sensitive argument is refused, whichever of the two is declared first."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from countersign_contracts.catalogue import Document, Tool, ToolRecord
from countersign_contracts.sealed import sealed, withheld
from countersign_policy.declarations import Declared
from countersign_policy.plan import plan_change
from countersign_policy.tools import compile_tool

PIN = {"type": "string", "x-sensitive": True}
OWNER = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"name": {"type": "string"}, "tax": {"type": "integer", "x-sensitive": True}},
}


def tool(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "tool",
        "name": name,
        "effect": "write",
        "arguments": {"type": "object", "additionalProperties": False, "properties": properties},
        "http": {"method": "POST", "url": "https://x.example/", "body": list(properties)},
    }


MARKED = tool("pay", {"amount": {"type": "integer"}, "pin": PIN, "owner": OWNER})
UNMARKED = tool("pay", {"amount": {"type": "integer"}, "pin": {"type": "string"}, "owner": {"type": "object"}})
OTHER = tool("greet", {"pin": {"type": "string"}})


def record(value: dict[str, Any]) -> ToolRecord:
    fields = {key: each for key, each in value.items() if key != "kind"}
    return ToolRecord(tool=Tool.model_validate(fields), version=1, revision=1)


CATALOGUE = {"pay": record(MARKED), "greet": record(OTHER)}


def forbid(condition: str, scope: str = "action") -> str:
    return (
        f"permit (principal, action, resource);\n\nforbid (principal, {scope}, resource)\nwhen {{\n  {condition}\n}};\n"
    )


@pytest.mark.parametrize(
    ("condition", "path"),
    [
        ('context.args.pin == "1234"', "pin"),
        ('context.args has pin && context.args.pin like "12*"', "pin"),
        ('context.args has owner && context["args"]["owner"]["tax"] > 5', "owner.tax"),
        ("context.args has owner.tax", "owner.tax"),
        ('["a"].contains(if true then context.args.pin else "x")', "pin"),
    ],
)
@pytest.mark.parametrize("scope", ["action", 'action == Action::"pay"', 'action in [Action::"pay", Action::"greet"]'])
def test_a_policy_that_reads_one_is_refused_at_its_line(condition: str, path: str, scope: str) -> None:
    plan = plan_change([Document(path="p.cedar", text=forbid(condition, scope))], [], CATALOGUE)
    (error,) = plan.errors
    assert error.message == f"tool `pay` marks `{path}`: a sensitive argument can be read by the executor only"
    assert (error.path, error.field, error.line) == ("p.cedar", "p/2", 5)


@pytest.mark.parametrize(
    ("condition", "scope"),
    [
        ('context.args has pin && context.args.pin == "1234"', 'action == Action::"greet"'),
        ("context.args has amount && context.args.amount > 5", 'action == Action::"pay"'),
        (
            'context.args has owner && context.args.owner has name && context.args.owner.name == "x"',
            'action == Action::"pay"',
        ),
    ],
)
def test_a_policy_about_other_tools_or_arguments_is_sound(condition: str, scope: str) -> None:
    assert plan_change([Document(path="p.cedar", text=forbid(condition, scope))], [], CATALOGUE).errors == ()


def test_an_argument_that_a_policy_reads_cannot_become_sensitive() -> None:
    present = [
        Declared("policy", "p", forbid('context.args has pin && context.args.pin == "1234"', 'action == Action::"pay"'))
    ]
    marked = Document(path="t.yaml", text=orjson.dumps(MARKED).decode())
    (error,) = plan_change([marked], present, {"pay": record(UNMARKED)}).errors
    assert error.message == "policy `p/2` reads `pin`; a sensitive argument can be read by the executor only"
    assert (error.path, error.field) == ("t.yaml", "arguments.properties.pin")
    mended = Document(
        path="p.cedar", text=forbid("context.args has amount && context.args.amount > 5", 'action == Action::"pay"')
    )
    assert plan_change([marked, mended], present, {"pay": record(UNMARKED)}).errors == ()


def spending(field: str) -> str:
    guardrail = f"{{kind: spend, name: per day, field: {field}, limit: 10, window_s: 60, per: agent}}"
    return f"kind: profile\nname: p\nenvironments: [dev]\ntools: [pay]\nguardrails:\n  - {guardrail}\n"


def test_nobody_adds_up_what_only_the_executor_reads() -> None:
    tax = tool("pay", {"amount": {"type": "integer"}, "tax": {"type": "integer", "x-sensitive": True}})
    (error,) = plan_change([Document(path="p.yaml", text=spending("tax"))], [], {"pay": record(tax)}).errors
    assert "`tax` of tool `pay` is sensitive" in error.message and (error.line, error.allowed) == (6, "amount")
    plain = tool("pay", {"amount": {"type": "integer"}, "tax": {"type": "integer"}})
    stored = plan_change([Document(path="p.yaml", text=spending("tax"))], [], {"pay": record(plain)}).items
    (error,) = plan_change([Document(path="t.yaml", text=orjson.dumps(tax).decode())], stored, {}).errors
    assert error.message.startswith("guardrail `per day` of profile `p` adds `tax` up")


def test_a_sensitive_argument_is_valid_sealed_and_not_otherwise() -> None:
    compiled = compile_tool(record(MARKED))
    good = sealed("b" * 64, bytes(32))
    assert not list(compiled.errors({"amount": 5, "pin": good, "owner": {"name": "Ada", "tax": good}}))
    for args in (
        {"pin": "hunter2"},
        {"pin": withheld()},
        {"amount": good},
        {"owner": {"tax": 51}},
        {"pim": withheld()},
    ):
        found = list(compiled.errors(args))
        assert found and "hunter2" not in str(found)


def test_cedar_sees_the_arguments_without_the_sensitive_ones() -> None:
    compiled = compile_tool(record(MARKED))
    good = sealed("b" * 64, bytes(32))
    seen = compiled.args_type.value({"amount": 5, "pin": good, "owner": {"name": "Ada", "tax": good}}, frozenset())
    assert seen == {"amount": 5, "owner": {"name": "Ada"}}


def test_marks_that_do_not_hold_make_every_argument_invalid() -> None:
    assert list(compile_tool(record(tool("pay", {"a": {"type": "array", "items": PIN}}))).errors({}))
