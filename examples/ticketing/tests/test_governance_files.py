"""The files under countersign/ describe this API: same addresses, same fields, same limits."""

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from ticketing.agent import LOOK, plan
from ticketing.app import build
from ticketing.problem import TITLES
from ticketing.seed import TICKETS

ROOM = Path(__file__).parent.parent
FILES = {
    path.relative_to(ROOM / "countersign").as_posix(): yaml.safe_load(path.read_text())
    for path in sorted((ROOM / "countersign").rglob("*.yaml"))
}
TOOLS: dict[str, dict[str, Any]] = {file["name"]: file for file in FILES.values() if file["kind"] == "tool"}
PROFILES: dict[str, dict[str, Any]] = {file["name"]: file for file in FILES.values() if file["kind"] == "profile"}


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    return build(Path("never-opened.db")).openapi()


def properties(openapi: dict[str, Any], operation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The JSON Schema of everything an operation takes, by name; null, as a default, left out."""
    found = {p["name"]: p["schema"] for p in operation["parameters"] if p["in"] != "header"}
    if "requestBody" in operation:
        reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/")[-1]
        found |= openapi["components"]["schemas"][reference]["properties"]
    return {
        name: next((choice for choice in schema.get("anyOf", []) if choice["type"] != "null"), schema)
        for name, schema in found.items()
    }


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_calls_what_the_api_offers_with_the_same_arguments(openapi: dict[str, Any], name: str) -> None:
    tool, http = TOOLS[name], TOOLS[name]["http"]
    path = http["url"].removeprefix("http://127.0.0.1:8000")
    offered = properties(openapi, openapi["paths"][path][http["method"].lower()])
    declared = tool["arguments"]["properties"]
    assert {key: {k: v for k, v in schema.items() if k != "title"} for key, schema in offered.items()} == declared


@pytest.mark.parametrize("name", TOOLS)
def test_a_tools_arguments_each_go_to_one_place(name: str) -> None:
    tool, http = TOOLS[name], TOOLS[name]["http"]
    jsonschema_rs.Draft202012Validator(tool["arguments"])
    assert tool["arguments"]["additionalProperties"] is False
    assert sorted([*http["path"], *http["query"], *http["body"]]) == sorted(tool["arguments"]["properties"])
    assert re.findall(r"{(\w+)}", http["url"]) == http["path"]
    assert set(re.findall(r"{(\w+)}", tool["resource"])) <= set(http["path"])


def test_the_files_are_named_for_what_they_hold() -> None:
    for path, file in FILES.items():
        if file["kind"] != "agent":
            assert path == f"{file['kind']}s/{file['name']}.yaml"


@pytest.mark.parametrize("name", PROFILES)
def test_a_profiles_tools_exist_and_its_endpoints_cover_exactly_them(name: str) -> None:
    profile = PROFILES[name]
    for tool in profile["tools"]:
        http = TOOLS[tool]["http"]
        call = f"{http['method']} {re.sub(r'{.*?}', '1', http['url'].removeprefix('http://127.0.0.1:8000'))}"
        assert [pattern for pattern in profile["endpoints"] if fnmatchcase(call, pattern)], call
    assert len(profile["endpoints"]) == len(profile["tools"])
    for tool, fields in profile["fields"].items():
        assert set(fields) <= set(TOOLS[tool]["http"]["body"])
    for guardrail in profile["guardrails"]:
        assert set(guardrail["tools"]) <= set(profile["tools"])


def test_the_do_not_contact_fact_looks_up_by_a_read_tool_with_valid_arguments() -> None:
    [fact] = TOOLS["send_customer_email"]["facts"]
    lookup = TOOLS[fact["tool"]]
    assert lookup["effect"] == "read"
    assert set(fact["args"]) == set(lookup["arguments"]["required"])


def test_the_agent_has_a_profile_that_may_run_where_it_does() -> None:
    agent = FILES["agents/support.yaml"]
    assert set(agent["environments"]) <= set(PROFILES[agent["profile"]]["environments"])


def test_everything_the_agent_wants_fits_the_tools_and_its_profile() -> None:
    profile = PROFILES["write_prod_with_approval"]
    open_tickets = [row.ticket.model_dump(mode="json") for row in TICKETS if row.ticket.status == "open"]
    for intent in [LOOK, *plan(open_tickets)]:
        assert intent.tool in profile["tools"]
        jsonschema_rs.validate(TOOLS[intent.tool]["arguments"], dict(intent.args))


def test_the_readme_names_every_endpoint_every_problem_and_every_file(openapi: dict[str, Any]) -> None:
    readme = (ROOM / "README.md").read_text()
    endpoints = [f"{method.upper()} {path}" for path, methods in openapi["paths"].items() for method in methods]
    for name in [*endpoints, *TITLES, *FILES]:
        assert f"`{name}`" in readme, name
