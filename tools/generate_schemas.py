"""The JSON Schemas (2020-12) of all that travels: events, commands, replies, projections, agents' messages, and files.

Each is self-contained and describes what is *accepted*. What a schema cannot say (a stop scope's form, what a kind of
guardrail needs) the code checks besides. The bytes of a body leave out members that are null.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from countersign_contracts import topology, warrant
from countersign_contracts.actions import ActionPage, ActionResult
from countersign_contracts.agent_config import Configuration, Configured
from countersign_contracts.catalogue import AgentDeclaration, Profile, Tool
from countersign_contracts.enrolment import Challenge, Registered, Registration, Renewal, Renewed
from countersign_contracts.errors import PROBLEM_PREFIX
from countersign_contracts.projection import BUCKETS
from countersign_contracts.telemetry import LogBatch, MetricReport
from countersign_gateway.http.problems import PROBLEM_SCHEMA
from countersign_gateway.ingress import Listing, Lookup
from countersign_gateway.submission import BusSubmission
from countersign_registry.heartbeat import Heartbeat
from generate_flows import address, commands, events
from generate_markdown import code, page, prose, table, words

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ID_PREFIX = "urn:countersign:schema:"

Kind = Literal["event", "command", "reply", "projection", "declared", "agent", "token"]
#: Each kind, and what a document of it is.
KINDS: dict[Kind, str] = {
    "event": "an event's body",
    "command": "a command's body: one service asks another",
    "reply": "the answer to a command",
    "projection": "a record in a key-value bucket",
    "declared": "a file that `countersign apply` reads",
    "agent": "what agents send and hear over NATS",
    "token": "the claims of a JWT",
}

#: Everything else stands before `properties`.
_ORDER = ("title", "description", "type", "const", "enum", "properties", "required", "additionalProperties", "$defs")

SUBMISSION = "countersign.submission.v1"
LOOKUP = "countersign.lookup.v1"
LISTING = "countersign.listing.v1"
HEARTBEAT = "countersign.heartbeat.v1"
REGISTRATION = "countersign.registration.v1"
REGISTERED = "countersign.registered.v1"
CHALLENGE = "countersign.challenge.v1"
RENEWAL = "countersign.renewal.v1"
RENEWED = "countersign.renewed.v1"
CONFIGURATION = "countersign.configuration.v1"
CONFIGURED = "countersign.configured.v1"
LOGS = "countersign.logs.v1"
METRICS = "countersign.metrics.v1"


@dataclass(frozen=True)
class Schema:
    """One schema: its name is its file's and the last part of its `$id`."""

    name: str
    kind: Kind
    document: dict[str, Any]

    @property
    def file(self) -> str:
        """The file below `schemas/`."""
        return f"{self.name}.json"

    @property
    def summary(self) -> str:
        """The first sentence of what it says of itself."""
        text = str(self.document.get("description", words(self.document["title"])))
        return text.split("\n")[0].split(". ")[0].rstrip(".") + "."


class _Generator(GenerateJsonSchema):
    """Titles name the models; a property's own name needs no second one."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schemas() -> list[Schema]:
    """Every schema, by kind and name."""
    return sorted(_all(), key=lambda schema: (list(KINDS).index(schema.kind), schema.name))


def reply_name(command_type: str) -> str:
    """The name of the schema of a command's reply."""
    return f"{command_type}.reply"


def files() -> dict[str, str]:
    """The text of every schema's file and of their index, by path below `docs/reference`."""
    found = schemas()
    texts = {f"schemas/{schema.file}": _text(schema.document) for schema in found}
    texts["schemas/README.md"] = _index(found)
    return texts


def _all() -> Iterator[Schema]:
    for event in events():
        spec = event.spec
        about = {"stream": spec.stream, "subject": address(event), "emitters": list(spec.emitters)}
        yield _of(spec.type, "event", event, **about)
    for command in commands():
        rpc = command.rpc
        about = {"subject": rpc.subject, "answers": rpc.service, "callers": list(rpc.callers)}
        yield _of(rpc.type, "command", command, **about)
        answered = _either("ok", command.reply)
        title = f"{command.__name__}Reply"
        yield _schema(reply_name(rpc.type), "reply", {"title": title, **answered}, command=rpc.type)
    for bucket in BUCKETS:
        readers = list(bucket.readers)
        yield _of(bucket.type, "projection", bucket.model, bucket=bucket.name, owner=bucket.owner, readers=readers)
    for declared in (Tool, Profile, AgentDeclaration):
        schema = _of(f"countersign.declared.{declared.model_fields['kind'].default}.v1", "declared", declared)
        # the model fills it in for code; in a file it says which model to read
        schema.document["required"] = ["kind", *schema.document["required"]]
        yield schema
    yield _of(SUBMISSION, "agent", BusSubmission)
    yield _of(LOOKUP, "agent", Lookup)
    yield _of(LISTING, "agent", Listing)
    yield _of(HEARTBEAT, "agent", Heartbeat)
    yield _of(REGISTRATION, "agent", Registration)
    yield _of(RENEWAL, "agent", Renewal)
    yield _of(CONFIGURED, "agent", Configured)
    yield _of(LOGS, "agent", LogBatch)
    yield _of(METRICS, "agent", MetricReport)
    for name, model in (
        (REGISTERED, Registered),
        (CHALLENGE, Challenge),
        (RENEWED, Renewed),
        (CONFIGURATION, Configuration),
    ):
        yield _schema(name, "agent", {"title": model.__name__, **_either(None, model)})
    yield _schema(topology.RESULT_TYPE, "agent", {"title": "Result", **_either(None, ActionResult)})
    yield _schema(topology.RESULTS_TYPE, "agent", {"title": "Results", **_either(None, ActionPage)})
    yield _of(warrant.TYPE, "token", warrant.Warrant)


def _of(name: str, kind: Kind, model: type[BaseModel], **about: Any) -> Schema:
    return _schema(name, kind, _model(model), **about)


def _schema(name: str, kind: Kind, body: dict[str, Any], **about: Any) -> Schema:
    version = int(name.removesuffix(".reply").rpartition(".v")[2])
    head = {"$schema": DIALECT, "$id": ID_PREFIX + name, "title": body.pop("title")}
    if described := body.pop("description", None):
        head["description"] = described
    head["x-countersign"] = {"kind": kind, "version": version, **about}
    return Schema(name, kind, head | body)


def _model(model: type[BaseModel]) -> dict[str, Any]:
    schema: dict[str, Any] = _readable(model.model_json_schema(schema_generator=_Generator))
    return schema


def _either(member: str | None, model: type[BaseModel]) -> dict[str, Any]:
    """The reply model, under `member` if there is one, or a problem."""
    body = _model(model)
    definitions = body.pop("$defs", {})
    definitions |= {model.__name__: body, "Problem": {"title": "Problem", **PROBLEM_SCHEMA}}
    good: dict[str, Any] = {"$ref": f"#/$defs/{model.__name__}"}
    refused: dict[str, Any] = {"problem": {"$ref": "#/$defs/Problem"}}
    if member is None:
        refused["request_id"] = {"type": "string"}
    else:
        good = {"type": "object", "additionalProperties": False, "required": [member], "properties": {member: good}}
    bad = {"type": "object", "additionalProperties": False, "required": ["problem"], "properties": refused}
    what = f"`{member}`" if member else prose(model.__doc__).rstrip(".")
    return {
        "description": f"{what}; or the problem (RFC 9457) that stood in the way.",
        "oneOf": [good, bad],
        "$defs": dict(sorted(definitions.items())),
    }


def _readable(schema: Any) -> Any:
    """The same schema, with its members in the order one reads them, and descriptions as Markdown."""
    if isinstance(schema, list):
        return [_readable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "patternProperties" in schema:
        schema = {"additionalProperties": False, **schema}  # pydantic takes no other name; its schema does not say so
    read: dict[str, Any] = {}
    for key in sorted(schema, key=lambda key: _ORDER.index(key) if key in _ORDER else _ORDER.index("properties")):
        value = schema[key]
        if key == "description":
            read[key] = prose(value)
        elif key in ("properties", "patternProperties", "$defs"):
            read[key] = {name: _readable(item) for name, item in value.items()}
        else:
            read[key] = value if key in ("default", "const", "enum") else _readable(value)
    return read


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _index(found: list[Schema]) -> str:
    parts = [
        "JSON Schema 2020-12 of all that travels and of all that is declared. Each file is self-contained; its `$id` is"
        f" its name after {code(ID_PREFIX)}. `x-countersign` says what it is, its version, and who may send it where.",
        "A schema describes what is accepted. A body on the bus leaves out members that are null. A problem's `type` is"
        f" one of the [codes](../errors.md) after {code(PROBLEM_PREFIX)}.",
    ]
    for kind, meaning in KINDS.items():
        rows = [
            (f"[{code(schema.name)}]({schema.file})", schema.document["title"], schema.summary)
            for schema in found
            if schema.kind == kind
        ]
        parts += [f"## {kind}: {meaning}", table(("schema", "model", "meaning"), rows)]
    return page("Schemas", *parts)
