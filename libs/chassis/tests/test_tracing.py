"""Traces without the rest of the product: who is followed, what is sent, what a log line says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from countersign_chassis.logs import logger
from countersign_chassis.tracing import NO_TRACES, Tracer, doing, sampled

FOLLOWED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Receiver(HTTPServer):
    """Keeps the bodies of what is posted."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.bodies: list[dict[str, Any]] = []


class Taking(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quietly."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def tracer(receiver: Receiver, ratio: float = 0.0) -> Tracer:
    return Tracer("policy", "1.2.3", "policy-2", f"http://127.0.0.1:{receiver.server_port}/v1/traces", ratio)


@pytest.mark.parametrize(
    ("traceparent", "followed"),
    [
        (FOLLOWED, True),
        (FOLLOWED[:-2] + "00", False),
        (FOLLOWED[:-2] + "03", True),
        (FOLLOWED[:-2] + "0f", True),
        (FOLLOWED + "0", False),
        ("", False),
        (None, False),
    ],
)
def test_the_last_bit_says_whether_a_trace_is_followed(traceparent: str | None, followed: bool) -> None:
    assert sampled(traceparent) is followed


def test_spans_are_sent_as_otlp_says(receiver: Receiver) -> None:
    tracing = tracer(receiver)
    outer = tracing.begin("process policy-actions", "CONSUMER", FOLLOWED, {"messaging.system": "nats", "n": 2})
    assert outer is not None and outer.traceparent.startswith(f"00-{TRACE}-") and outer.traceparent.endswith("-01")
    inner = tracing.begin("publish ACTIONS", "PRODUCER", outer.traceparent, link=f"00-{'a' * 32}-{'b' * 16}-01")
    assert inner is not None
    inner.end()
    outer.end("given_back")
    outer.end()
    tracing.close()
    (body,) = receiver.bodies
    (resource,) = body["resourceSpans"]
    told = {each["key"]: each["value"] for each in resource["resource"]["attributes"]}
    assert told["service.name"] == {"stringValue": "policy"} and told["service.version"] == {"stringValue": "1.2.3"}
    first, second = resource["scopeSpans"][0]["spans"]
    assert first["parentSpanId"] == second["spanId"] and second["parentSpanId"] == "b7ad6b7169203331"
    assert first["traceId"] == second["traceId"] == TRACE
    assert first["kind"] == 4 and second["kind"] == 5
    assert first["links"] == [{"traceId": "a" * 32, "spanId": "b" * 16}]
    assert second["status"] == {"code": 2} and first["status"] == {}
    assert {"key": "n", "value": {"intValue": "2"}} in second["attributes"]
    assert {"key": "error.type", "value": {"stringValue": "given_back"}} in second["attributes"]
    assert int(second["endTimeUnixNano"]) >= int(second["startTimeUnixNano"]) > 1.6e18


def test_chance_decides_only_where_nobody_did(receiver: Receiver) -> None:
    always, never = tracer(receiver, 1.0), tracer(receiver, 0.0)
    assert always.chosen(None) and not never.chosen(None)
    assert never.chosen(FOLLOWED) and not always.chosen(FOLLOWED[:-2] + "00")
    assert not NO_TRACES.chosen(FOLLOWED) and NO_TRACES.begin("a", "SERVER", FOLLOWED) is None


def test_a_log_line_says_which_trace_it_belongs_to(receiver: Receiver, capfd: pytest.CaptureFixture[str]) -> None:
    tracing = tracer(receiver)
    span = tracing.begin_here("POST", FOLLOWED)
    log = logger("policy")
    with tracing.within(span):
        log.info("inside", request="r")
    with doing(None):
        log.info("outside")
    tracing.close()
    inside, outside = (json.loads(line) for line in capfd.readouterr().err.splitlines())
    assert span is not None
    assert (inside["trace_id"], inside["span_id"], inside["request"]) == (TRACE, span.span_id, "r")
    assert "trace_id" not in outside


def test_a_span_that_fails_says_so_and_lets_the_error_through(receiver: Receiver) -> None:
    tracing = tracer(receiver)
    with pytest.raises(ValueError, match="no"), tracing.within(tracing.begin_here("POST", FOLLOWED)):
        raise ValueError("no")
    tracing.close()
    (span,) = receiver.bodies[0]["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert span["status"] == {"code": 2} and "parentSpanId" in span
