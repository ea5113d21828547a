"""Cedar is asked rightly: types from JSON Schema, the same answer from a profile's slice as from the whole set."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import cedarpy
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from countersign_contracts.catalogue import Profile, Tool, ToolRecord
from countersign_contracts.fleet import AgentRecord, Owner
from countersign_policy.cedar_text import parse
from countersign_policy.cedar_types import Inexact, record_of
from countersign_policy.engine import Engine, Question, build_engine, schema_of
from countersign_policy.policy_set import PolicySet, compile_set
from countersign_policy.tools import compile_tool

from .conftest import make_action

NAMES = st.text("abc_\"' é", min_size=1, max_size=3)
SCALARS = st.sampled_from(
    [
        {"type": "string"},
        {"type": "integer"},
        {"type": "number"},
        {"type": "boolean"},
        {"type": ["string", "null"]},
        {"type": ["string", "integer"]},
        {"enum": ["a", "b"]},
        {"const": "x"},
        {"enum": [1, "a"]},
        {},
        True,
    ]
)
SCHEMAS = st.recursive(
    SCALARS,
    lambda inner: (
        st.builds(lambda items: {"type": "array", "items": items}, inner)
        | st.builds(
            lambda properties, required: {
                "type": "object",
                "properties": properties,
                "required": sorted(name for name in properties if name in required),
            },
            st.dictionaries(NAMES, inner, max_size=3),
            st.sets(NAMES, max_size=2),
        )
    ),
    max_leaves=6,
)


def value_of(schema: Any, draw: st.DrawFn) -> Any:
    """A value that is valid under one of the schemas above."""
    if schema is True or schema == {}:
        return draw(st.none() | st.integers() | st.just({"__entity": {"type": "Agent", "id": "x"}}))
    if "enum" in schema or "const" in schema:
        return draw(st.sampled_from(schema.get("enum", [schema.get("const")])))
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    match draw(st.sampled_from(kinds)):
        case "string":
            return draw(st.text(max_size=5))
        case "integer":
            return draw(st.integers(-(2**53) + 1, 2**53 - 1) | st.integers(-9, 9).map(float))
        case "number":
            return draw(st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False))
        case "boolean":
            return draw(st.booleans())
        case "null":
            return None
        case "array":
            return [value_of(schema["items"], draw) for _ in range(draw(st.integers(0, 3)))]
    given = {}
    for name, each in schema["properties"].items():
        if name in schema["required"] or draw(st.booleans()):
            given[name] = value_of(each, draw)
    return given | draw(st.just({}) | st.just({"__extn": {"fn": "decimal", "arg": "1.0"}}))


def tool(arguments: Any, **fields: Any) -> ToolRecord:
    defaults = {"name": "list_tickets", "effect": "read", "http": {"method": "GET", "url": "https://x.example/t"}}
    return ToolRecord(tool=Tool(**(defaults | {"arguments": arguments} | fields)), version=1, revision=1)


def agent(profile: str = "p", environments: tuple[str, ...] = ("dev",)) -> AgentRecord:
    owner = Owner(team="t")
    return AgentRecord(
        agent_id="helper",
        name="x",
        owner=owner,
        profile=profile,
        environments=environments,
        status="active",
        revision=1,
    )


def question(args: dict[str, Any], of: AgentRecord, **fields: Any) -> Question:
    action = make_action(args=args, digest="sha256:" + "0" * 64, **fields)
    return Question(action, of, "GET /t", tuple(sorted(args)), "read", "low", False)


@st.composite
def schema_and_value(draw: st.DrawFn) -> tuple[Any, Any]:
    schema = draw(SCHEMAS.filter(lambda s: isinstance(s, dict) and s.get("type") == "object"))
    return schema, value_of(schema, draw)


@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow], max_examples=150, deadline=None)
@given(schema_and_value())
def test_valid_arguments_always_have_the_type_that_their_schema_gave(pair: tuple[Any, Any]) -> None:
    schema, args = pair
    compiled = compile_tool(tool(schema))
    assume(compiled.validator is not None and compiled.validator.is_valid(args))
    profile = Profile(name="p", environments=("dev",), tools=("list_tickets",))
    engine = build_engine(compile_set([profile], []), [compiled.record])
    answer = engine.ask(question(args, agent()), compiled)
    assert answer.errors == ()
    assert answer.allowed


def test_arguments_that_do_not_fit_their_type_are_never_allowed() -> None:
    arguments = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    compiled = compile_tool(tool(arguments))
    profile = Profile(name="p", environments=("dev",), tools=("list_tickets",))
    engine = build_engine(compile_set([profile], []), [compiled.record])
    assert engine.ask(question({"n": 1}, agent()), compiled).allowed
    answer = build_engine(engine.policy_set, [compiled.record]).ask(question({}, agent()), compiled)
    assert not answer.allowed
    assert answer.errors != ()


def test_what_cedar_cannot_type_is_left_out() -> None:
    schema = {
        "type": "object",
        "required": ["a", "n", "free"],
        "properties": {
            "a": {"type": "integer"},
            "n": {"type": ["string", "null"]},
            "either": {"type": ["string", "integer"]},
            "free": {},
            "ref": {"$ref": "#/$defs/money"},
            "loop": {"$ref": "#/properties/loop"},
            "list": {"type": "array", "items": {"type": ["string", "null"]}},
            "__entity": {"type": "string"},
        },
        "$defs": {"money": {"type": "number"}},
    }
    fields = record_of(schema).fields
    assert fields is not None
    assert {name: (type.kind, required) for name, (type, required) in fields.items()} == {
        "a": ("Long", True),
        "n": ("String", False),
        "ref": ("decimal", False),
    }


@pytest.mark.parametrize(
    ("number", "text"), [(1, "1.0000"), (0.1, "0.1000"), (-0.0, "-0.0000"), (12.3456, "12.3456"), (1.00001, "1.0001")]
)
def test_decimals_are_exact_or_rounded_away_from_zero(number: float, text: str) -> None:
    of = record_of({"type": "object", "properties": {"x": {"type": "number"}}})
    assert of.value({"x": number}, frozenset()) == {"x": {"__extn": {"fn": "decimal", "arg": text}}}


@pytest.mark.parametrize("number", [1.00001, 1e15, -1e300])
def test_a_number_that_a_policy_compares_is_never_rounded(number: float) -> None:
    of = record_of({"type": "object", "properties": {"x": {"type": "number"}}})
    with pytest.raises(Inexact):
        of.value({"x": number}, frozenset(["x"]))


def written(text: str) -> list[Any]:
    policies, errors = parse("w.cedar", "w", text)
    assert errors == []
    return policies


PROFILES = st.lists(
    st.builds(
        Profile,
        name=st.sampled_from(["p", "q", "r"]),
        environments=st.sampled_from([("dev",), ("prod",), ("dev", "prod")]),
        tools=st.sampled_from([(), ("list_tickets",), ("pay",)]),
        endpoints=st.sampled_from([(), ("GET /*",), ("POST /x",)]),
        fields=st.sampled_from([{}, {"list_tickets": ()}, {"list_tickets": ("a",)}]),
    ),
    max_size=3,
    unique_by=lambda p: p.name,
)
WRITTEN = st.lists(
    st.sampled_from(
        [
            "permit (principal, action, resource);",
            'forbid (principal in Profile::"p", action, resource) when { context.args has a };',
            'permit (principal in Profile::"q", action, resource) when { context.env == "prod" };',
            "forbid (principal, action, resource) when { 9223372036854775807 + context.args.n > 0 };",
        ]
    ),
    max_size=3,
).map("\n".join)


@settings(max_examples=150, deadline=None)
@given(
    PROFILES,
    WRITTEN,
    st.sampled_from(["p", "q", "z"]),
    st.sampled_from(["dev", "prod", "mars"]),
    st.sampled_from([{"n": 0}, {"n": 1, "a": "x"}]),
)
def test_a_profiles_slice_answers_as_the_whole_set_does(
    profiles: list[Profile], text: str, name: str, env: str, args: dict[str, Any]
) -> None:
    policy_set = compile_set(profiles, written(text))
    arguments = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}, "a": {"type": "string"}}}
    compiled = compile_tool(tool(arguments))
    asked = question(args, agent(name, ("dev", "prod")), env=env)
    sliced = build_engine(policy_set, [compiled.record]).ask(asked, compiled)
    whole = Engine(WholeSet(policy_set), {"list_tickets": compiled}).ask(asked, compiled)
    assert (sliced.allowed, sliced.policies) == (whole.allowed, whole.policies)
    assert sorted(sliced.errors) == sorted(whole.errors)


class WholeSet(PolicySet):
    """Answers every profile with all policies."""

    def __init__(self, of: PolicySet) -> None:
        super().__init__(of.version, of.profiles, of.policies, of.mentioned, of.context_use, of._of_profile, of._shared)

    def handle(self, profile: str, part: Any) -> cedarpy.PolicySet:
        assert part == "all"
        return self.whole()


LOOKING = st.lists(
    st.sampled_from(
        [
            "permit (principal, action, resource);",
            'forbid (principal, action, resource) when { context.args has a && context.args.a == "x" };',
            'forbid (principal, action, resource) when { context has session && context.session like "s-1*" };',
            'forbid (principal, action, resource) unless { context.principals.contains("person:ann") };',
            'forbid (principal, action, resource) when { context == {env: "dev"} };',
            'forbid (principal, action, resource) when { [context].isEmpty() || context.risk == "high" };',
            'permit (principal, action, resource) when { context.fields.contains("a") };',
        ]
    ),
    max_size=3,
    unique=True,
).map("\n".join)


@settings(max_examples=150, deadline=None)
@given(PROFILES, LOOKING, st.data())
def test_an_answer_that_was_kept_is_the_one_cedar_would_give(profiles: list[Profile], text: str, data: Any) -> None:
    arguments = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}, "a": {"type": "string"}}}
    compiled = compile_tool(tool(arguments))
    policy_set = compile_set(profiles, written(text))
    keeping = build_engine(policy_set, [compiled.record])
    for _ in range(6):
        asked = question(
            data.draw(st.sampled_from([{"n": 0}, {"n": 1, "a": "x"}, {"n": 2, "a": "y"}])),
            agent(data.draw(st.sampled_from(["p", "q"])), ("dev", "prod")),
            env=data.draw(st.sampled_from(["dev", "prod"])),
            session_id=data.draw(st.sampled_from([None, "s-1", "s-2"])),
            principal_chain=data.draw(st.sampled_from([(), ("person:ann",)])),
        )
        # one agent has one profile at a time: another profile is another revision
        asked = replace(asked, agent=asked.agent.model_copy(update={"revision": ord(asked.agent.profile)}))
        assert keeping.ask(asked, compiled) == build_engine(policy_set, [compiled.record]).ask(asked, compiled)


@settings(max_examples=50, deadline=None)
@given(PROFILES)
def test_compiled_profiles_are_sound_cedar(profiles: list[Profile]) -> None:
    tools = {name: compile_tool(tool({"type": "object"}, name=name)) for name in ("list_tickets", "pay")}
    schema = cedarpy.Schema.from_json_str(json.dumps(schema_of(tools)))
    result = cedarpy.validate_policies(str(compile_set(profiles, []).whole()), schema)
    assert result.errors == []


def test_the_version_names_exactly_the_set() -> None:
    one = Profile(name="p", environments=("dev",), tools=("pay",))
    policy = written("permit (principal, action, resource);")
    same = compile_set([one], policy)
    assert same.version == compile_set([one], written("// a comment\npermit(principal,action,resource);")).version
    others = [
        compile_set([], policy),
        compile_set([one], []),
        compile_set(
            [one.model_copy(update={"approval_deadline_s": 5})], written("permit (principal, action, resource);")
        ),
        compile_set([one], written("forbid (principal, action, resource);")),
    ]
    assert len({same.version, *(o.version for o in others)}) == 5


def test_a_tool_whose_names_cedar_does_not_take_harms_no_other() -> None:
    odd = tool({"type": "object", "properties": {"__cedar": {"type": "string"}, "": {"type": "string"}}}, name="odd")
    profile = Profile(name="p", environments=("dev",), tools=("list_tickets",))
    engine = build_engine(compile_set([profile], []), [odd, tool({"type": "object"})])
    assert engine.ask(question({}, agent()), engine.tools["list_tickets"]).allowed


def test_a_schema_that_cannot_be_used_makes_every_argument_invalid() -> None:
    broken = compile_tool(tool({"type": "objekt"}))
    assert any("schema cannot be used" in error for error in broken.errors({}))
    remote = compile_tool(tool({"$ref": "https://elsewhere.example/schema.json"}))
    assert any("schema cannot be used" in error for error in remote.errors({}))
    node = {"type": "object", "properties": {"c": {"allOf": [{"$ref": "#/$defs/n"}, {"$ref": "#/$defs/n"}]}}}
    doubling = compile_tool(tool({"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": node}}))
    (error,) = doubling.errors({})
    assert "schema cannot be used: more than 2000 of its parts could look at one value" in error


def test_thousands_of_wrong_values_hold_nobody_up() -> None:
    numbers = {"type": "array", "items": {"type": "integer", "minimum": 3, "enum": [7]}}
    compiled = compile_tool(tool({"type": "object", "properties": {"a": numbers}, "additionalProperties": False}))
    few = list(compiled.errors({"a": ["x"] * 4}))
    assert len(few) == 8 and few[0].startswith("`a.0`: the value is not of type")
    began = time.process_time()
    for _ in range(10):
        many = list(compiled.errors({"a": ["x"] * 9000}))
    assert time.process_time() - began < 0.5, "finding all of them took ten times as long"
    assert many[1:] == ["and maybe more: there are too many values to look for every error"]
    assert many[0].startswith("`a.0`: the value is not")
