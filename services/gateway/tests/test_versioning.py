"""Which version of the API answers: a table, and the application with nothing behind it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_contracts.errors import CountersignError
from countersign_gateway.http.app import make_app
from countersign_gateway.http.versioning import SERVED, Version, choose, text

TWO: dict[int, Version] = {1: (1, 4, 2), 2: (2, 0, 1)}


@pytest.mark.parametrize(
    ("path", "header", "parameter", "version", "served_at"),
    [
        ("/api/v1/agents", [], [], "1.4.2", "/api/v1/agents"),
        ("/api/v2/agents", [], [], "2.0.1", "/api/v2/agents"),
        ("/api/v1", [], [], "1.4.2", "/api/v1"),
        ("/api/agents", ["1"], [], "1.4.2", "/api/v1/agents"),
        ("/api/agents", [], ["2"], "2.0.1", "/api/v2/agents"),
        ("/api/agents", ["1.4"], ["1.0.0"], "1.4.2", "/api/v1/agents"),
        ("/api/v1/agents", ["1.4.2"], ["1"], "1.4.2", "/api/v1/agents"),
        ("/api/vault", ["1"], [], "1.4.2", "/api/v1/vault"),
    ],
)
def test_the_version_asked_for_answers(
    path: str, header: list[str], parameter: list[str], version: str, served_at: str
) -> None:
    chosen = choose(path, header, parameter, TWO)
    assert (text(chosen.version), chosen.path) == (version, served_at)


@pytest.mark.parametrize(
    ("path", "header", "parameter", "says"),
    [
        ("/api/agents", [], [], "names no version"),
        ("/api/v3/agents", [], [], "the path says v3"),
        ("/api/agents", ["3"], [], "header API-Version says '3'"),
        ("/api/agents", ["1.5"], [], "'1.5'"),
        ("/api/agents", ["1.4.3"], [], "'1.4.3'"),
        ("/api/agents", ["latest"], [], "'latest'"),
        ("/api/agents", [""], [], "''"),
        ("/api/agents", [], ["1.0.0.0"], "parameter api_version says '1.0.0.0'"),
        ("/api/v1/agents", ["2"], [], "the path says v1 and header API-Version says '2'"),
        ("/api/v1/agents", [], ["2"], "ask for one"),
        ("/api/agents", ["1", "2"], [], "ask for one"),
        ("/api/v1/agents", ["9"], [], "says '9'"),
    ],
)
def test_what_is_not_served_or_contradicts_is_refused_with_what_is(
    path: str, header: list[str], parameter: list[str], says: str
) -> None:
    with pytest.raises(CountersignError) as refused:
        choose(path, header, parameter, TWO)
    assert (refused.value.code, refused.value.status) == ("unknown_version", 400)
    assert says in refused.value.detail and "served: 1.4.2, 2.0.1" in refused.value.detail
    assert refused.value.extra["versions"] == ["1.4.2", "2.0.1"]


@given(st.text(max_size=40))
def test_whatever_is_asked_is_served_or_refused(asked: str) -> None:
    try:
        chosen = choose("/api/x", [asked], [], TWO)
    except CountersignError as error:
        assert error.code == "unknown_version"
    else:
        assert chosen.version in TWO.values()


class _NoLog:
    def __getattr__(self, _: str) -> Any:
        return lambda *_args, **_kwargs: None


async def get(url: str, header: str | None = None) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body of one request to the application itself."""
    parts = urlsplit(url)
    headers = [(b"host", b"localhost")] + ([(b"api-version", header.encode())] if header is not None else [])
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 1),
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await make_app(None, [], _NoLog(), "0")(scope, receive, send)
    found = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


async def test_every_answer_below_api_says_which_version_answered_and_no_other_does() -> None:
    present = text(SERVED[1])
    status, headers, _ = await get("/api/v1/nothing")
    assert (status, headers["api-version"]) == (404, present)
    status, headers, problem = await get("/api/nothing", "1")
    assert (status, headers["api-version"], headers["vary"]) == (404, present, "API-Version")
    assert "GET /api/v1/nothing" in problem["detail"]
    assert (await get("/api/nothing?api_version=1"))[0] == 404
    for url, header in (
        ("/api/v9/agents", None),
        ("/api/agents", None),
        ("/api/v1/agents", "2"),
        ("/api/v1/agents?api_version=", None),
    ):
        status, headers, problem = await get(url, header)
        assert (status, problem["versions"]) == (400, [present])
        assert problem["type"] == "urn:countersign:problem:unknown_version"
    assert "api-version" not in (await get("/openapi.json"))[1]
