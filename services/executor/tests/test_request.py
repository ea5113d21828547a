"""A tool and its arguments become exactly one request, and no argument leaves the place it is given."""

import posixpath
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from countersign_contracts.catalogue import HttpCall, Tool
from countersign_executor.request import Endpoint, InvalidArguments, InvalidCall

TEMPLATE = "https://api.example.com:8443/v1/tickets/{ticket}/notes/{note}.json"


def call(**changes: Any) -> HttpCall:
    values = {"method": "POST", "url": TEMPLATE, "path": ["ticket", "note"], "query": ["q"], "body": ["text", "n"]}
    return HttpCall.model_validate({**values, **changes})


ENDPOINT = Endpoint.of(call())


@pytest.mark.parametrize(
    ("args", "url", "body"),
    [
        ({"ticket": "7", "note": "a"}, "/v1/tickets/7/notes/a.json", b"{}"),
        ({"ticket": 7, "note": True}, "/v1/tickets/7/notes/true.json", b"{}"),
        ({"ticket": 1.5, "note": "ä"}, "/v1/tickets/1.5/notes/%C3%A4.json", b"{}"),
        ({"ticket": "a/b", "note": "x"}, "/v1/tickets/a%2Fb/notes/x.json", b"{}"),
        ({"ticket": "a?b#c", "note": "%41"}, "/v1/tickets/a%3Fb%23c/notes/%2541.json", b"{}"),
        ({"ticket": "7", "note": "a", "q": "x y&z=1"}, "/v1/tickets/7/notes/a.json?q=x%20y%26z%3D1", b"{}"),
        ({"ticket": "7", "note": "a", "q": ["x", 1, None]}, "/v1/tickets/7/notes/a.json?q=x&q=1", b"{}"),
        ({"ticket": "7", "note": "a", "q": None}, "/v1/tickets/7/notes/a.json", b"{}"),
        ({"ticket": "7", "note": "a", "text": None, "n": [1]}, "/v1/tickets/7/notes/a.json", b'{"text":null,"n":[1]}'),
    ],
)
def test_arguments_fill_their_places(args: dict[str, Any], url: str, body: bytes) -> None:
    request = ENDPOINT.request(args)
    assert (request.method, request.url, request.body) == ("POST", "https://api.example.com:8443" + url, body)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"ticket": "", "note": "a"}, "may not be empty"),
        ({"note": "a"}, "must be text"),
        ({"ticket": None, "note": "a"}, "must be text"),
        ({"ticket": ["7"], "note": "a"}, "must be text"),
        ({"ticket": {"a": 1}, "note": "a"}, "must be text"),
        ({"ticket": "..", "note": "a"}, "segments"),
        ({"ticket": ".", "note": "a"}, "segments"),
        ({"ticket": "../../admin", "note": "a"}, "segments"),
        ({"ticket": "x/../../admin", "note": "a"}, "segments"),
        ({"ticket": "..\\..\\admin", "note": "a"}, "segments"),
        ({"ticket": "%2e%2e/admin", "note": "a"}, "segments"),
        ({"ticket": "%252e%252e%252fadmin", "note": "a"}, "segments"),
        ({"ticket": "..;x=1/admin", "note": "a"}, "segments"),
        ({"ticket": "7\r\nX-Admin: 1", "note": "a"}, "control"),
        ({"ticket": "7\0", "note": "a"}, "control"),
        ({"ticket": "\ud800", "note": "a"}, "cannot be sent"),
        ({"ticket": "7", "note": "a", "q": {"a": 1}}, "must be text"),
        ({"ticket": "7", "note": "a", "q": [["x"]]}, "must be text"),
        ({"ticket": "7", "note": "a", "text": "\ud800"}, "cannot be sent"),
        ({"ticket": "7", "note": "a", "admin": True}, "no argument `admin`"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArguments, match=message):
        ENDPOINT.request(args)


def test_a_dot_segment_made_of_two_arguments_is_refused() -> None:
    endpoint = Endpoint.of(call(url="http://h/a/{ticket}{note}/b"))
    with pytest.raises(InvalidArguments):
        endpoint.request({"ticket": ".", "note": "."})


def test_a_dot_segment_made_of_an_argument_and_what_stands_before_it_is_refused() -> None:
    endpoint = Endpoint.of(call(url="http://h/a/..{ticket}/.{note}"))
    endpoint.request({"ticket": "x", "note": "y"})
    for args in ({"ticket": "/x", "note": "y"}, {"ticket": "x", "note": "."}, {"ticket": "%2fx", "note": "y"}):
        with pytest.raises(InvalidArguments):
            endpoint.request(args)


def test_a_request_without_declared_body_sends_none() -> None:
    assert Endpoint.of(call(method="DELETE", body=[])).request({"ticket": "1", "note": "2"}).body is None


def test_a_fixed_query_stays() -> None:
    endpoint = Endpoint.of(call(url="http://h/x?expand=all", path=[]))
    assert endpoint.request({"q": "1"}).url == "http://h/x?expand=all&q=1"
    assert endpoint.request({}).url == "http://h/x?expand=all"


TRICKY = st.text() | st.text(alphabet="./\\%2eEfF;:@?#&= \t\r\nau{}", max_size=24)
VALUES = TRICKY | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()


def resolved(path: str) -> str:
    """The path as the most eager server could read it: decoded to the end, backslashes as slashes, dots walked."""
    while (decoded := unquote(path)) != path:
        path = decoded
    path = "/".join(part.split(";")[0] for part in path.replace("\\", "/").split("/"))
    return posixpath.normpath(path)


@given(
    args=st.fixed_dictionaries(
        {"ticket": VALUES, "note": VALUES}, optional={"q": VALUES | st.lists(VALUES), "text": VALUES}
    )
)
@example(args={"ticket": "..", "note": ".."})
@example(args={"ticket": "@evil.example/", "note": "//evil.example"})
@example(args={"ticket": "%2e%2e%2f%2e%2e", "note": "x"})
def test_no_argument_escapes_the_declared_host_and_path(args: dict[str, Any]) -> None:
    try:
        request = ENDPOINT.request(args)
    except InvalidArguments:
        return
    parts = urlsplit(request.url)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "api.example.com:8443", "")
    assert len(parts.path.split("/")) == len(["", "v1", "tickets", "x", "notes", "y.json"])
    assert parts.path.startswith("/v1/tickets/") and "/notes/" in parts.path and parts.path.endswith(".json")
    assert resolved(parts.path).startswith("/v1/tickets/")
    assert {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} <= {"q"}
    assert request.url.isascii() and request.url.isprintable() and " " not in request.url


@given(value=st.text().filter(lambda v: v not in ("", ".", "..")))
def test_what_is_sent_in_the_path_is_what_was_approved(value: str) -> None:
    try:
        request = ENDPOINT.request({"ticket": value, "note": "n"})
    except InvalidArguments:
        return
    assert unquote(urlsplit(request.url).path.split("/")[3], errors="strict") == value


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"url": "ftp://h/{ticket}/{note}"}, "url", "scheme"),
        ({"url": "//h/{ticket}/{note}"}, "url", "scheme"),
        ({"url": "http://{ticket}.example.com/{note}"}, "url", "fixed host"),
        ({"url": "http://user:pw@h/{ticket}/{note}"}, "url", "credentials"),
        ({"url": "http:///{ticket}/{note}"}, "url", "fixed host"),
        ({"url": "http://h:0/{ticket}/{note}"}, "url", "port"),
        ({"url": "http://h:99999/{ticket}/{note}"}, "url", "not a URL"),
        ({"url": "http://h/{ticket}/{note}#x"}, "url", "fragment"),
        ({"url": "http://h/{ticket}/{note}?a={q}"}, "url", "placeholders"),
        ({"url": "http://h/{ticket}/{note}/{no way}"}, "url", "without spaces"),
        ({"url": "http://h/{ticket}/{note}/{-}"}, "url", "brace"),
        ({"url": "http://h/../{ticket}/{note}"}, "url", "segments"),
        ({"url": "http://h/%2e%2e/{ticket}/{note}"}, "url", "segments"),
        ({"url": "http://h/{ticket}/ü/{note}"}, "url", "ASCII"),
        ({"url": "http://h\\@evil/{ticket}/{note}"}, "url", "credentials"),
        ({"url": "http://h/{ticket}"}, "path", "no `{note}`"),
        ({"path": ["ticket"]}, "url", "not listed"),
        ({"method": "GET"}, "body", "no body"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(changes: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(InvalidCall, match=message) as refused:
        Endpoint.of(call(**changes))
    assert refused.value.field == field


def test_the_default_tool_of_these_tests_is_a_sound_one(make_tool: Callable[..., Tool]) -> None:
    tool = make_tool()
    request = Endpoint.of(tool.http).request({"item": "7", "verbose": False, "note": "n"})
    assert (request.url, request.body) == ("http://127.0.0.1:9/items/7?verbose=false", b'{"note":"n"}')
