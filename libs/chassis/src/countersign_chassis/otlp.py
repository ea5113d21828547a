"""Sends spans over OTLP/HTTP with JSON bodies (OTLP 1.5), from the span processor's own thread.

Not the SDK's exporter: that brings protobuf and an HTTP client of its own, for one POST now and then. What the receiver
does not take is dropped: traces must never hold up what they tell about.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

TIMEOUT_S = 5.0
_KINDS = {"INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}


class OtlpExporter(SpanExporter):
    """To one receiver's ``…/v1/traces``."""

    def __init__(self, url: str) -> None:
        self._url = url
        # no proxy: the receiver is a neighbour
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """POST them; no second try."""
        request = urllib.request.Request(  # noqa: S310  (the operator names the URL)
            self._url, json.dumps(body(spans)).encode(), {"Content-Type": "application/json"}
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                response.read()
        except (urllib.error.URLError, OSError):
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS


def body(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """The request's body; all spans are of one service."""
    resource = spans[0].resource.attributes if spans else {}
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource)},
                "scopeSpans": [{"scope": {"name": "countersign"}, "spans": [_span(span) for span in spans]}],
            }
        ]
    }


def _span(span: ReadableSpan) -> dict[str, Any]:
    context = span.context
    told: dict[str, Any] = {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "flags": 1,
        "name": span.name,
        "kind": _KINDS[span.kind.name],
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _attributes(span.attributes or {}),
        "links": [
            {"traceId": f"{link.context.trace_id:032x}", "spanId": f"{link.context.span_id:016x}"}
            for link in span.links
        ],
        "status": {"code": 2} if span.status.status_code is StatusCode.ERROR else {},
    }
    if span.parent is not None:
        told["parentSpanId"] = f"{span.parent.span_id:016x}"
    return told


def _attributes(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": str(value)}}
        for key, value in given.items()
    ]
