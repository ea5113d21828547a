"""One call against real servers that misbehave: what was sent, what is kept, what is told apart."""

import asyncio
import hashlib
import socket
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from countersign_contracts.catalogue import HttpCall, Tool
from countersign_executor.caller import Called, Caller, Withheld
from countersign_executor.connector import Connector
from countersign_executor.outcome import Attempt, RetryRules
from countersign_executor.request import HttpRequest
from countersign_executor.secrets import Secrets

SECRETS = Secrets({"API_KEY": "hunter2hunter2"})


class Resolver(AbstractResolver):
    """Answers names with what the test says, or else as this machine does; and counts."""

    def __init__(self) -> None:
        self.answers: list[list[str]] = []
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        if not self.answers:
            return await ThreadedResolver().resolve(host, port, family)
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


@pytest.fixture
def resolver() -> Resolver:
    return Resolver()


@pytest_asyncio.fixture
async def connector(resolver: Resolver) -> AsyncIterator[Connector]:
    """Names go to ``resolver`` (which is not cached); addresses written as such need none."""
    made = Connector(connect_timeout_s=1, keepalive_s=4, dns_ttl_s=0, resolver=resolver)
    await made.open()
    yield made
    await made.close()


async def open_gate() -> None:
    pass


async def send(
    connector: Connector,
    url: str,
    *,
    method: str = "POST",
    body: bytes | None = b"{}",
    headers: dict[str, str] | None = None,
    gate: Callable[[], Any] = open_gate,
    **call: Any,
) -> Attempt:
    http = HttpCall.model_validate({"method": method, "url": url, "allow_private": True, "timeout_s": 1, **call})
    request = HttpRequest(method, url, body if method != "GET" else None)
    return await connector.attempt(http, request, headers or {}, SECRETS, gate)


def failure(attempt: Attempt) -> tuple[str, str | None]:
    return attempt.kind, attempt.failure.code if attempt.failure else None


# --- what is sent -----------------------------------------------------------------------------------


async def test_a_call_sends_what_it_was_given_and_reuses_the_connection(connector: Connector, downstream: Any) -> None:
    for _ in range(3):
        attempt = await send(connector, f"{downstream.url}/a%2Fb?q=%26", body=b'{"x":1}', headers={"X-Key": "v"})
        assert attempt.kind == "answered" and attempt.answer is not None
        assert attempt.answer.result == {"done": True}
    assert downstream.connections == 1
    request = downstream.requests[0]
    assert (request.method, request.target, request.body) == ("POST", "/a%2Fb?q=%26", b'{"x":1}')
    assert request.headers["x-key"] == "v"
    assert request.headers["host"] == f"127.0.0.1:{downstream.port}"
    assert "cookie" not in request.headers


async def test_cookies_are_neither_kept_nor_sent(connector: Connector, downstream: Any, http: Any) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(http(200, b"{}", "Set-Cookie: session=1\r\n"))

    downstream.answer = answer
    await send(connector, downstream.url + "/")
    await send(connector, downstream.url + "/")
    assert all("cookie" not in request.headers for request in downstream.requests)


async def test_no_proxy_of_the_environment_is_used(
    connector: Connector, downstream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert (await send(connector, downstream.url + "/")).kind == "answered"


async def test_redirects_are_not_followed(connector: Connector, downstream: Any, http: Any) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(http(307, b"", f"Location: {downstream.url}/elsewhere\r\n"))

    downstream.answer = answer
    attempt = await send(connector, downstream.url + "/")
    assert failure(attempt) == ("answered", "redirect_refused")
    assert len(downstream.requests) == 1


# --- what comes back --------------------------------------------------------------------------------


async def test_a_huge_body_is_cut_and_hashed_whole(connector: Connector, downstream: Any, http: Any) -> None:
    body = b"0123456789abcdef" * 200_000

    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(http(200, body, kind="text/plain"))

    downstream.answer = answer
    attempt = await send(connector, downstream.url + "/", response_limit_bytes=1000, timeout_s=10)
    kept = attempt.answer
    assert attempt.kind == "answered" and kept is not None
    assert kept.truncated and kept.result.startswith(body[:1000].decode()) and "[cut by countersign" in kept.result
    assert (kept.sha256, kept.size) == (hashlib.sha256(body).hexdigest(), len(body))


async def test_a_body_without_end_ends_at_the_cap(
    connector: Connector, downstream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("countersign_executor.answer.Body.__init__.__defaults__", (100_000,))

    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
            await writer.drain()

    downstream.answer = answer
    attempt = await send(connector, downstream.url + "/", response_limit_bytes=10, timeout_s=10)
    assert attempt.kind == "answered" and attempt.failure is None and attempt.answer is not None
    assert attempt.answer.truncated and attempt.answer.sha256 is None


async def test_a_compressed_body_cannot_outgrow_the_cap(connector: Connector, downstream: Any, http: Any) -> None:
    body = zlib.compress(b"\0" * 5_000_000)

    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(http(200, body, "Content-Encoding: deflate\r\n", "text/plain"))

    downstream.answer = answer
    attempt = await send(connector, downstream.url + "/", response_limit_bytes=100, timeout_s=10)
    assert attempt.answer is not None and attempt.answer.truncated


async def test_an_echoed_secret_is_masked(connector: Connector, downstream: Any, http: Any) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(http(400, b'{"you sent":"' + request.headers["authorization"].encode() + b'"}'))

    downstream.answer = answer
    attempt = await send(connector, downstream.url + "/", headers={"Authorization": "Bearer hunter2hunter2"})
    assert attempt.answer is not None and attempt.answer.result == {"you sent": "Bearer ***"}


async def test_a_secret_in_a_broken_status_line_is_masked(connector: Connector, downstream: Any) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hunter2hunter2 is no status line\r\n\r\n")

    downstream.answer = answer
    attempt = await send(connector, downstream.url + "/")
    assert failure(attempt) == ("lost", "connection")
    assert attempt.failure is not None and "hunter2" not in attempt.failure.message


async def test_a_wrong_content_type_is_kept_as_text(connector: Connector, downstream: Any, http: Any) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(http(200, b"<html>"))

    downstream.answer = answer
    attempt = await send(connector, downstream.url + "/")
    assert attempt.answer is not None and attempt.answer.result == "<html>"


async def test_retry_after_is_read(connector: Connector, downstream: Any, http: Any) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(http(503, b"", "Retry-After: 3\r\n"))

    downstream.answer = answer
    attempt = await send(connector, downstream.url + "/")
    assert attempt.retry_after_s == 3 and failure(attempt) == ("answered", "downstream_status")


# --- what is told apart -----------------------------------------------------------------------------


async def test_a_refused_connection_sent_nothing(connector: Connector) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # nobody listens on it, and nobody else is given it
        assert failure(await send(connector, f"http://127.0.0.1:{port}/")) == ("not_sent", "connection")


async def test_a_name_that_does_not_resolve_sent_nothing(connector: Connector, resolver: Resolver) -> None:
    async def resolve(*_: Any, **__: Any) -> list[ResolveResult]:
        raise socket.gaierror(-2, "Name or service not known")

    resolver.resolve = resolve  # type: ignore[method-assign]
    assert failure(await send(connector, "http://nowhere.example/")) == ("not_sent", "connection")


async def test_a_connection_that_does_not_come_in_time_sent_nothing(connector: Connector, resolver: Resolver) -> None:
    async def resolve(*_: Any, **__: Any) -> list[ResolveResult]:
        await asyncio.sleep(30)
        return []

    resolver.resolve = resolve  # type: ignore[method-assign]
    attempt = await send(connector, "http://slow.example/", timeout_s=0.2)
    assert failure(attempt) == ("not_sent", "timeout")


@pytest.mark.parametrize("how", ["silence", "close", "reset", "half headers", "half body", "slow body"])
async def test_a_call_whose_answer_never_comes_whole_is_lost(connector: Connector, downstream: Any, how: str) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        match how:
            case "silence":
                await asyncio.sleep(30)
            case "close":
                writer.close()
            case "reset":
                writer.transport.abort()
            case "half headers":
                writer.write(b"HTTP/1.1 200 OK\r\nConte")
                writer.close()
            case "half body":
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"a":')
                writer.close()
            case "slow body":
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"a":')
                await writer.drain()
                await asyncio.sleep(30)

    downstream.answer = answer
    attempt = await send(connector, downstream.url + "/", timeout_s=0.3)
    code = "timeout" if how in ("silence", "slow body") else "connection"
    assert failure(attempt) == ("lost", code)
    if how in ("half body", "slow body"):
        assert attempt.answer is not None and attempt.answer.status == 200 and attempt.answer.sha256 is None


@pytest.mark.parametrize("status", ["99", "000", "1000", "65536", "2147483648", "99999999999999999999", "-200"])
async def test_a_status_that_is_none_says_nothing(connector: Connector, downstream: Any, status: str) -> None:
    """A status has three digits (RFC 9110, section 15); whether the effect happened is not known from anything else."""

    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} Well\r\nContent-Length: 2\r\n\r\n{{}}".encode())

    downstream.answer = answer
    assert failure(await send(connector, downstream.url + "/")) == ("lost", "connection")


@pytest.mark.parametrize("status", [600, 999])
async def test_a_status_that_means_nothing_is_no_success(
    connector: Connector, downstream: Any, http: Any, status: int
) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(http(status, b"{}"))

    downstream.answer = answer
    attempt = await send(connector, downstream.url + "/")
    assert failure(attempt) == ("answered", "downstream_status")
    assert attempt.answer is not None and attempt.answer.status == status


async def test_an_error_answer_counts_though_its_body_breaks_off(connector: Connector, downstream: Any) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 422 No\r\nContent-Length: 100\r\n\r\n{")
        writer.close()

    downstream.answer = answer
    assert failure(await send(connector, downstream.url + "/")) == ("answered", "downstream_status")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET", "POST"])
async def test_a_request_is_never_written_twice_on_a_dead_kept_connection(
    connector: Connector, downstream: Any, method: str
) -> None:
    """aiohttp by itself repeats PUT and DELETE there, which a tool may not be able to bear."""

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        if len(downstream.requests) == 1:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        else:
            writer.transport.abort()

    downstream.answer = answer
    await send(connector, downstream.url + "/", method=method)
    attempt = await send(connector, downstream.url + "/", method=method)
    assert failure(attempt) == ("lost", "connection")
    assert len(downstream.requests) == 2 and downstream.connections == 1


# --- where it may go --------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254"])
async def test_a_name_that_leads_inside_is_refused(
    connector: Connector, resolver: Resolver, downstream: Any, address: str
) -> None:
    resolver.answers = [["1.1.1.1", address]]
    attempt = await send(connector, f"http://rebind.example:{downstream.port}/", allow_private=False)
    assert failure(attempt) == ("not_sent", "egress_refused")
    assert downstream.connections == 0


async def test_a_name_that_changes_its_answer_gains_nothing(
    connector: Connector, resolver: Resolver, downstream: Any
) -> None:
    """DNS rebinding: public when judged, private when connected. Here one answer serves for both."""
    resolver.answers = [["192.88.99.1"], ["127.0.0.1"]]  # nobody answers at the first
    url = f"http://rebind.example:{downstream.port}/"
    attempt = await send(connector, url, allow_private=False, timeout_s=0.3)
    assert attempt.kind == "not_sent" and resolver.asked == 1
    attempt = await send(connector, url, allow_private=False, timeout_s=0.3)
    assert failure(attempt) == ("not_sent", "egress_refused") and resolver.asked == 2
    assert downstream.connections == 0


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0"]
)
async def test_an_address_in_the_url_is_judged_too(connector: Connector, downstream: Any, host: str) -> None:
    attempt = await send(connector, f"http://{host}:{downstream.port}/", allow_private=False)
    assert attempt.kind == "not_sent"
    assert downstream.connections == 0


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "0.0.0.0"])
async def test_metadata_addresses_are_closed_even_where_private_ones_are_open(
    connector: Connector, downstream: Any, host: str
) -> None:
    attempt = await send(connector, f"http://{host}:{downstream.port}/", timeout_s=0.3)
    assert failure(attempt) == ("not_sent", "egress_refused")
    assert downstream.connections == 0


async def test_a_private_connection_kept_by_one_tool_is_no_way_in_for_another(
    connector: Connector, resolver: Resolver, downstream: Any
) -> None:
    resolver.answers = [["127.0.0.1"]]
    url = f"http://inside.example:{downstream.port}/"
    assert (await send(connector, url, allow_private=True)).kind == "answered"
    assert failure(await send(connector, url, allow_private=False)) == ("not_sent", "egress_refused")
    assert len(downstream.requests) == 1


# --- the gate ---------------------------------------------------------------------------------------


async def test_a_closed_gate_lets_no_byte_out_and_keeps_the_connection(connector: Connector, downstream: Any) -> None:
    async def closed() -> None:
        raise Withheld("stopped")

    await send(connector, downstream.url + "/")
    with pytest.raises(Withheld):
        await send(connector, downstream.url + "/", gate=closed)
    await send(connector, downstream.url + "/")
    assert len(downstream.requests) == 2 and downstream.connections == 1


async def test_the_gate_is_asked_once_the_connection_stands(connector: Connector, downstream: Any) -> None:
    seen: list[int] = []

    async def gate() -> None:
        await asyncio.sleep(0.01)
        seen.append(downstream.connections)

    await send(connector, downstream.url + "/", gate=gate)
    assert seen == [1]


# --- tries ------------------------------------------------------------------------------------------


@pytest.fixture
def caller(connector: Connector) -> Caller:
    rules = RetryRules(first_pause_s=0.01, max_pause_s=0.05, max_retry_after_s=1, budget_s=5)
    return Caller(connector, rules, lambda: SECRETS, "countersign/test", lambda _: None)


async def call(caller: Caller, tool: Tool, downstream: Any, gate: Any = open_gate) -> Called:
    headers = caller.headers(tool, "127.0.0.1", idempotency_key="key-1", traceparent="00-aa-bb-01")
    return await caller.call(tool, HttpRequest("POST", downstream.url + "/", b"{}"), headers, gate)


async def test_an_idempotent_tool_is_tried_again_under_the_same_key(
    caller: Caller, downstream: Any, make_tool: Callable[..., Tool], http: Any
) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        match len(downstream.requests):
            case 1:
                writer.transport.abort()
            case 2:
                writer.write(http(503))
            case _:
                writer.write(http(200, b"{}"))

    downstream.answer = answer
    called = await call(caller, make_tool(idempotent=True), downstream)
    assert [attempt.kind for attempt in called.attempts] == ["lost", "answered", "answered"]
    assert {request.headers["idempotency-key"] for request in downstream.requests} == {"key-1"}


async def test_any_other_tool_is_tried_once(
    caller: Caller, downstream: Any, make_tool: Callable[..., Tool], http: Any
) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(http(503))

    downstream.answer = answer
    assert len((await call(caller, make_tool(), downstream)).attempts) == 1
    assert len(downstream.requests) == 1


async def test_the_gate_closes_between_tries_too(
    caller: Caller, downstream: Any, make_tool: Callable[..., Tool], http: Any
) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(http(503))

    async def gate() -> None:
        if downstream.requests:
            raise Withheld("stopped")

    downstream.answer = answer
    called = await call(caller, make_tool(idempotent=True), downstream, gate)
    assert len(called.attempts) == 1 and str(called.withheld) == "stopped"
    assert len(downstream.requests) == 1


def test_headers_carry_what_a_downstream_needs(caller: Caller, make_tool: Callable[..., Tool]) -> None:
    tool = make_tool(http={"headers": {"Authorization": "Bearer ${secret:API_KEY}"}})
    headers = caller.headers(tool, "127.0.0.1", idempotency_key="key-1", traceparent="00-aa-bb-01")
    assert headers == {
        "Authorization": "Bearer hunter2hunter2",
        "User-Agent": "countersign/test",
        "Accept": "application/json, */*;q=0.5",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "Idempotency-Key": "key-1",
        "traceparent": "00-aa-bb-01",
    }
    assert "Idempotency-Key" not in caller.headers(tool, "127.0.0.1", idempotency_key=None, traceparent=None)
