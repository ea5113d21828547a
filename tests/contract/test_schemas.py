"""Whoever has only the published schemas can talk to us: what they allow is read, and what is written they allow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

import jsonschema_rs
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from countersign_contracts import topology, warrant
from countersign_contracts.catalogue import AgentDeclaration, Document, Profile, Tool
from countersign_contracts.command import COMMANDS, problem_bytes, read_reply, reply_bytes
from countersign_contracts.documents import FileErrors, read_document
from countersign_contracts.errors import PROBLEMS, CountersignError
from countersign_contracts.event import EVENTS
from countersign_contracts.model import Frozen
from countersign_contracts.projection import BUCKETS
from workspace import ROOT

from .conftest import references

Schema: TypeAlias = dict[str, Any]
Strategy: TypeAlias = st.SearchStrategy[Any]

MODELS: dict[str, type[Frozen]] = {
    **EVENTS,
    **COMMANDS,
    **{bucket.type: bucket.model for bucket in BUCKETS},
    "countersign.declared.tool.v1": Tool,
    "countersign.declared.profile.v1": Profile,
    "countersign.declared.agent.v1": AgentDeclaration,
    warrant.TYPE: warrant.Warrant,
}
REPLIES = {f"{type}.reply": command.reply for type, command in COMMANDS.items()}
OF_AGENTS = {
    "countersign.submission.v1",
    "countersign.lookup.v1",
    "countersign.listing.v1",
    "countersign.heartbeat.v1",
    "countersign.registration.v1",
    "countersign.registered.v1",
    "countersign.challenge.v1",
    "countersign.renewal.v1",
    "countersign.renewed.v1",
    "countersign.configuration.v1",
    "countersign.configured.v1",
    "countersign.logs.v1",
    "countersign.metrics.v1",
    topology.RESULT_TYPE,
    topology.RESULTS_TYPE,
}
quick = settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

# --- values that a schema allows, by nothing but the schema -----------------------------------------------

text = st.text(st.characters(codec="utf-8"), max_size=6)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=3,
)
times = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(datetime.isoformat)
#: What the code asks for beyond what these schemas say.
CONDITIONS: list[Schema] = [{"equals": 1}, {"in": ["a"]}, {"at_least": 0.5}, {"present": True}, {"present": False}]
GUARDRAILS: list[Schema] = [
    {"kind": "session_calls", "limit": 5},
    {"kind": "rate", "limit": 5, "window_s": 60, "per": "agent"},
    {"kind": "spend", "limit": 9.5, "window_s": 60, "per": "tool", "field": "amount"},
    {"kind": "time_window", "start": "09:00", "end": "17:30", "timezone": "Europe/Berlin"},
]
ALERT_CONDITIONS: list[Schema] = [
    {"metric": "cpu_share", "aggregate": "last", "above": 0.9, "window_s": 60},
    {"metric": "values.queue", "below": 1},
    {"logs": "critical", "above": 3},
    {"phase": ["failed"]},
    {"silent_s": 120},
]
BEYOND: Mapping[str, Strategy] = {
    "AlertCondition": st.sampled_from(ALERT_CONDITIONS),
    "Condition": st.sampled_from([{"field": "f"} | one for one in CONDITIONS]),
    "Guardrail": st.sampled_from([{"name": "g"} | one for one in GUARDRAILS]),
    "scope": st.sampled_from(["all", "env:prod", "tool:t", "profile:p", "agent:a", "session:s"]),
    # null is refused where a fact is declared
    "equals": anything.filter(lambda value: value is not None),
}


def allowed(schema: Any, root: Schema, name: str = "") -> Strategy:
    """Values that `schema` allows."""
    if name in BEYOND and not (isinstance(schema, dict) and "pattern" in schema):
        return BEYOND[name]
    if schema is True or schema == {}:
        return anything
    if "$ref" in schema:
        target = schema["$ref"].removeprefix("#/$defs/")
        return allowed(root["$defs"][target], root, target)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return st.one_of(*(allowed(option, root) for option in schema[several]))
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds: dict[Any, Callable[[Schema, Schema], Strategy]] = {
        "object": objects,
        "array": arrays,
        "string": strings,
        "integer": integers,
        "number": numbers,
        "boolean": lambda *_: st.booleans(),
        "null": lambda *_: st.none(),
        None: lambda *_: anything,
    }
    return kinds[schema.get("type")](schema, root)


def objects(schema: Schema, root: Schema) -> Strategy:
    properties = {name: allowed(each, root, name) for name, each in schema.get("properties", {}).items()}
    required = {name: properties.pop(name) for name in schema.get("required", ())}
    fixed = st.fixed_dictionaries(required, optional=properties)
    for pattern, each in schema.get("patternProperties", {}).items():
        return st.dictionaries(st.from_regex(end_of_text(pattern)), allowed(each, root), max_size=2)
    if (more := schema.get("additionalProperties", True)) is False or properties or required:
        return fixed
    names = st.sampled_from(["dev", "prod", "default"])  # such names as any map of ours takes
    return st.dictionaries(names, allowed(more, root), max_size=2)


def arrays(schema: Schema, root: Schema) -> Strategy:
    least = schema.get("minItems", 0)
    return st.lists(allowed(schema.get("items", True), root), min_size=least, max_size=least + 2)


def strings(schema: Schema, root: Schema) -> Strategy:
    if "pattern" in schema:
        return st.from_regex(end_of_text(schema["pattern"]))
    if schema.get("format") == "date-time":
        return times
    least = schema.get("minLength", 0)
    most = min(schema.get("maxLength", 6), least + 6)
    return st.text(st.characters(codec="utf-8"), min_size=least, max_size=most)


def end_of_text(pattern: str) -> str:
    """In JSON Schema `$` is the end (ECMA-262); in Python also what is before a line feed there."""
    return pattern.removesuffix("$") + r"\Z" if pattern.endswith("$") else pattern


def bounds(schema: Schema) -> tuple[float, float]:
    low = schema.get("minimum", schema["exclusiveMinimum"] + 1 if "exclusiveMinimum" in schema else -1000)
    return low, schema.get("maximum", low + 1000)


def integers(schema: Schema, root: Schema) -> Strategy:
    low, high = bounds(schema)
    return st.integers(int(low), int(high))


def numbers(schema: Schema, root: Schema) -> Strategy:
    return st.floats(*bounds(schema)) | integers(schema, root)


class Schemas:
    """What each published schema allows, made of it once."""

    def __init__(self, schemas: dict[str, Schema]) -> None:
        self._schemas = schemas
        self._values: dict[str, Strategy] = {}
        self._validators: dict[str, Any] = {}

    def values(self, name: str, part: Callable[[Schema], Schema] = lambda schema: schema) -> Strategy:
        """Values that the schema, or a part of it, allows."""
        if name not in self._values:
            self._values[name] = allowed(part(self._schemas[name]), self._schemas[name])
        return self._values[name]

    def validate(self, name: str, value: Any) -> None:
        """Raises what is wrong with a value."""
        if name not in self._validators:
            self._validators[name] = jsonschema_rs.validator_for(self._schemas[name])
        self._validators[name].validate(value)


@pytest.fixture(scope="module")
def each(schemas: dict[str, Schema]) -> Schemas:
    return Schemas(schemas)


# --- the rules ---------------------------------------------------------------------------------------------


def test_everything_that_travels_or_is_declared_is_published(schemas: dict[str, Schema]) -> None:
    assert set(schemas) == MODELS.keys() | REPLIES.keys() | OF_AGENTS


def test_each_is_a_schema_of_its_dialect_with_a_name_of_its_own(schemas: dict[str, Schema]) -> None:
    for name, schema in schemas.items():
        jsonschema_rs.meta.validate(schema)
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert schema["$id"] == f"urn:countersign:schema:{name}"
        assert name.removesuffix(".reply").endswith(f".v{schema['x-countersign']['version']}")
    assert len({schema["title"] for schema in schemas.values()}) >= len(schemas) - len(REPLIES)


def test_each_stands_alone(schemas: dict[str, Schema]) -> None:
    for schema in schemas.values():
        for reference in references(schema):
            assert reference.removeprefix("#/$defs/") in schema["$defs"], reference


@pytest.mark.parametrize("name", MODELS)
@quick
@given(data=st.data())
def test_what_a_schema_allows_is_read_and_what_is_written_it_allows(
    each: Schemas, name: str, data: st.DataObject
) -> None:
    sent = data.draw(each.values(name))
    body = MODELS[name].from_bytes(json.dumps(sent).encode())
    each.validate(name, json.loads(body.to_bytes()))


@pytest.mark.parametrize("name", REPLIES)
@quick
@given(data=st.data())
def test_an_answer_that_a_schema_allows_is_read_and_ours_it_allows(
    each: Schemas, name: str, data: st.DataObject
) -> None:
    sent = data.draw(each.values(name, lambda schema: schema["oneOf"][0]))
    answer = read_reply(json.dumps(sent).encode(), REPLIES[name])
    each.validate(name, json.loads(reply_bytes(answer)))


@pytest.mark.parametrize("code", PROBLEMS)
def test_a_problem_is_an_answer_to_every_command(each: Schemas, code: str) -> None:
    problem = json.loads(problem_bytes(CountersignError("why", code=code, errors=[{"field": "a", "message": "b"}])))
    for name in REPLIES:
        each.validate(name, problem)


@pytest.mark.parametrize("name", MODELS)
def test_a_member_that_nobody_knows_is_allowed_nowhere(schemas: dict[str, Schema], name: str) -> None:
    schema = schemas[name]
    assert schema["additionalProperties"] is False
    closed = [each for each in schema.get("$defs", {}).values() if each.get("type") == "object"]
    assert all("additionalProperties" in each for each in closed if each["title"] != "Problem")


DECLARED = {"tool": "countersign.declared.tool.v1", "profile": "countersign.declared.profile.v1"}
DECLARED["agent"] = "countersign.declared.agent.v1"
EXAMPLES = sorted((ROOT / "examples").glob("*/countersign/**/*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: str(file.name))
def test_the_examples_files_are_what_the_schemas_allow(schemas: dict[str, Schema], file: Any) -> None:
    for document in yaml.safe_load_all(file.read_text("utf-8")):
        jsonschema_rs.validate(schemas[DECLARED[document["kind"]]], document)


def test_a_file_says_its_kind(schemas: dict[str, Schema]) -> None:
    """In code the kind has a default; a file without it is refused, and so is what would describe it."""
    agent = {"agent_id": "a", "name": "A", "owner": {"team": "t"}, "profile": "p", "environments": ["dev"]}
    schema = jsonschema_rs.validator_for(schemas["countersign.declared.agent.v1"])
    for kind, right in (({}, False), ({"kind": "tool"}, False), ({"kind": "agent"}, True)):
        declared = {**kind, **agent}
        assert schema.is_valid(declared) is right
        read = read_document(Document(path="agent.yaml", text=yaml.safe_dump(declared)))
        assert isinstance(read, FileErrors) is not right
