"""Whatever is wrong with a request, the answer is a problem detail (RFC 9457), and nothing has happened."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ticketing.problem import BODY_LIMIT_BYTES

EMAIL = {"subject": "Hello", "body": "All done."}
DEEP = "[" * 100_000

BAD_BODIES: list[tuple[str, str, str, int, str]] = [
    ("not JSON", "/tickets/1", "{status:", 400, "malformed-request"),
    ("too deep", "/tickets/1", DEEP, 400, "malformed-request"),
    ("not UTF-8", "/tickets/1", "\udcff", 400, "malformed-request"),
    ("no body", "/tickets/1", "", 422, "invalid-request"),
    ("not an object", "/tickets/1", "[]", 422, "invalid-request"),
    ("no field", "/tickets/1", "{}", 422, "invalid-request"),
    ("unknown field", "/tickets/1", '{"state": "closed"}', 422, "invalid-request"),
    ("unknown status", "/tickets/1", '{"status": "done"}', 422, "invalid-request"),
    ("null status", "/tickets/1", '{"status": null}', 422, "invalid-request"),
    ("empty title", "/tickets/1", '{"title": ""}', 422, "invalid-request"),
    ("long title", "/tickets/1", json.dumps({"title": "x" * 201}), 422, "invalid-request"),
    ("half a surrogate", "/tickets/1", '{"title": "\\ud800"}', 422, "invalid-request"),
    ("too large", "/tickets/1", json.dumps({"title": "x" * BODY_LIMIT_BYTES}), 413, "too-large"),
    ("no such ticket", "/tickets/99", '{"status": "closed"}', 404, "not-found"),
    ("ticket 0", "/tickets/0", '{"status": "closed"}', 422, "invalid-request"),
    ("ticket beyond SQLite", f"/tickets/{2**63}", '{"status": "closed"}', 422, "invalid-request"),
    ("ticket x", "/tickets/x", '{"status": "closed"}', 422, "invalid-request"),
]


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [case[1:] for case in BAD_BODIES],
    ids=[case[0] for case in BAD_BODIES],
)
async def test_a_bad_change_is_refused_precisely(api: Any, path: str, body: str, status: int, kind: str) -> None:
    sent = body.encode("utf-8", "surrogateescape")
    headers = {"Content-Type": "application/json"}
    async with api.http.patch(api.url + path, data=sent, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (status, "application/problem+json")
        problem = await answer.json(content_type=None)
    assert problem["type"] == f"https://ticketing.example/problems/{kind}"
    assert problem["status"] == status
    assert problem["title"] and problem["detail"]
    assert await api.journal() == []


@pytest.mark.parametrize("subject", ["", "two\nlines", "a\r\nBcc: all@example.com", "x" * 201])
async def test_a_subject_is_one_line_of_reasonable_length(api: Any, subject: str) -> None:
    status, problem = await api.call("POST", "/customers/1/email", json={**EMAIL, "subject": subject})
    assert (status, problem["errors"][0]["pointer"]) == (422, "/subject")
    assert await api.journal() == []


async def test_every_invalid_part_is_named(api: Any) -> None:
    _, body = await api.call("PATCH", "/tickets/1", json={"status": "done", "a/b~c": 1})
    assert {error["pointer"] for error in body["errors"]} == {"/status", "/a~1b~0c"}
    _, query = await api.call("GET", "/tickets?status=done&state=open&customer_id=x")
    assert {(error["in"], error["name"]) for error in query["errors"]} == {
        ("query", "status"),
        ("query", "state"),
        ("query", "customer_id"),
    }


@pytest.mark.parametrize("key", ["", "two words", "k" * 256], ids=["empty", "spaces", "long"])
async def test_an_unusable_idempotency_key_is_refused(api: Any, key: str) -> None:
    status, problem = await api.call("POST", "/customers/1/email", json=EMAIL, key=key)
    assert status == 422
    assert problem["errors"][0]["name"].lower() == "idempotency-key"
    assert await api.journal() == []


async def test_what_does_not_exist_is_404_and_a_wrong_method_405(api: Any) -> None:
    for path in ("/tickets/99", "/customers/99", "/nowhere"):
        status, problem = await api.call("GET", path)
        assert (status, problem["type"].rsplit("/")[-1]) == (404, "not-found"), path
    assert (await api.call("POST", "/customers/99/email", json=EMAIL))[0] == 404
    async with api.http.delete(f"{api.url}/tickets/1") as answer:
        assert (answer.status, answer.content_type) == (405, "application/problem+json")
        assert answer.headers["Allow"] == "GET, PATCH"


async def test_a_body_without_a_length_is_limited_too(api: Any) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(BODY_LIMIT_BYTES // 1024 + 1):
            yield b" " * 1024

    async with api.http.patch(
        f"{api.url}/tickets/1", data=chunks(), headers={"Content-Type": "application/json"}
    ) as answer:
        assert answer.status == 413


async def test_a_failing_database_is_a_problem_without_a_stack_trace(api: Any, database: Path) -> None:
    await api.call("GET", "/health")
    with closing(sqlite3.connect(database)) as other:
        other.execute("DROP TABLE tickets")
    status, problem = await api.call("PATCH", "/tickets/1", json={"status": "closed"}, key="k-1")
    assert (status, problem["type"]) == (500, "https://ticketing.example/problems/internal")
    assert "sqlite" not in json.dumps(problem).lower()
    async with asyncio.timeout(3):
        assert (await api.call("POST", "/customers/1/email", json=EMAIL, key="k-1"))[0] == 200, "nothing is locked"


async def test_the_description_of_the_api_names_problems_as_such(api: Any) -> None:
    status, document = await api.call("GET", "/openapi.json")
    assert status == 200
    operations: list[dict[str, Any]] = [o for path in document["paths"].values() for o in path.values()]
    assert len(operations) == 7
    for operation in operations:
        for answer in ("422", "default"):
            assert list(operation["responses"][answer]["content"]) == ["application/problem+json"]
