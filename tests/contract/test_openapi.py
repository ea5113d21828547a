"""The OpenAPI document is one of version 3.1, whole, and describes every path with its errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeAlias

import jsonschema_rs
import pytest

from countersign_contracts.errors import PROBLEMS

from .conftest import REFERENCE, references

Json: TypeAlias = dict[str, Any]

METHODS = {"get", "put", "post", "delete", "patch"}
#: What anyone may ask without a credential.
OPEN = {("get", "/health"), ("get", "/api/v1/trust"), ("get", "/api/v1/tokens/provider")}
#: And where a proof in the body takes a credential's place.
PROVEN = {("post", "/api/v1/agents/{agent_id}/challenge"), ("post", "/api/v1/agents/{agent_id}/renew")}


@pytest.fixture(scope="module")
def document() -> Json:
    read: Json = json.loads((REFERENCE / "openapi.json").read_text("utf-8"))
    return read


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_it_is_one_of_version_3_1(document: Json) -> None:
    assert document["openapi"].startswith("3.1.")
    assert set(document) <= {"openapi", "info", "paths", "components", "tags", "servers", "security"}
    assert {"title", "version"} <= document["info"].keys()


def test_every_reference_leads_somewhere(document: Json) -> None:
    found = set(references(document))
    assert len(found) > 30
    for reference in found:
        at: Any = document
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]


def test_every_schema_is_one_of_its_dialect_and_is_used(document: Json) -> None:
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
    used = {reference.rpartition("/")[2] for reference in references(document)}
    assert set(schemas) <= used


def test_every_operation_has_a_name_of_its_own_and_its_parameters(document: Json) -> None:
    names = []
    for method, path, operation in operations(document):
        assert method in METHODS
        names.append(operation["operationId"])
        declared = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert declared == {part.strip("{}") for part in path.split("/") if part.startswith("{")}, path
        assert all(p["required"] for p in operation.get("parameters", []) if p["in"] == "path")
        assert any(code.startswith("2") for code in operation["responses"])
        assert all("description" in response for response in operation["responses"].values())
    assert len(set(names)) == len(names)


def test_nothing_but_health_and_public_keys_is_open_to_everyone(document: Json) -> None:
    schemes = document["components"]["securitySchemes"]
    for method, path, operation in operations(document):
        asked = {name for one in operation.get("security", []) for name in one}
        assert asked <= schemes.keys()
        assert bool(asked) is ((method, path) not in OPEN | PROVEN), path


def test_whatever_can_be_refused_says_how(document: Json) -> None:
    for method, path, operation in operations(document):
        if (method, path) in OPEN:
            continue
        for status in ("4XX", "5XX"):
            content = operation["responses"][status]["content"]
            assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}, path


def test_a_problem_is_described_as_it_is_answered(document: Json) -> None:
    schema = document["components"]["schemas"]["Problem"]
    for code, (status, title) in PROBLEMS.items():
        problem = {"type": f"urn:countersign:problem:{code}", "title": title, "status": status, "detail": "why"}
        jsonschema_rs.validate(schema, problem)
    assert set(schema["required"]) == {"type", "title", "status", "detail"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "/api/v1/actions"),
        ("get", "/api/v1/actions"),
        ("get", "/api/v1/actions/{request_id}"),
        ("post", "/api/v1/actions/{request_id}/cancel"),
        ("post", "/api/v1/actions/{request_id}/reconcile"),
        ("get", "/api/v1/approvals"),
        ("get", "/api/v1/approvals/{approval_id}"),
        ("post", "/api/v1/approvals/{approval_id}/votes"),
        ("get", "/api/v1/stops"),
        ("post", "/api/v1/stops"),
        ("delete", "/api/v1/stops/{stop_id}"),
        ("get", "/api/v1/audit/timeline"),
        ("get", "/api/v1/agents"),
        ("post", "/api/v1/agents"),
        ("get", "/api/v1/agents/{agent_id}"),
        ("post", "/api/v1/agents/{agent_id}/pause"),
        ("post", "/api/v1/agents/{agent_id}/resume"),
        ("post", "/api/v1/agents/{agent_id}/revoke"),
        ("post", "/api/v1/agents/{agent_id}/credentials"),
        ("post", "/action"),
        ("get", "/audit/timeline"),
        ("get", "/health"),
    ],
)
def test_what_was_promised_is_there(document: Json, method: str, path: str) -> None:
    assert method in document["paths"][path]
