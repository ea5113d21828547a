"""Traces (OpenTelemetry): spans of what was chosen to be followed, across HTTP, messages and commands.

Whether an action is followed is decided once, where it comes in: a caller's sampled `traceparent`, or by chance. From
there on the context says so, in the header of every message (W3C Trace Context); what is not followed costs a look at
its last character. Without a receiver nothing is imported, made or changed.

An event is signed without its `traceparent`: each service puts its own span there, so that the next one follows it.
Traces are no evidence; the ledger is.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as SdkSpan
    from opentelemetry.trace import SpanContext

Kind = Literal["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]
Attributes = Mapping[str, str | int]

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)


def sampled(traceparent: str | None) -> bool:
    """Whether the context says that its trace is followed: the last bit of its flags."""
    return traceparent is not None and len(traceparent) == 55 and traceparent[-1] in "13579bdf"


class Span:
    """A span under way. ``traceparent`` is its context, for whatever comes of it."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: SdkSpan) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return self.traceparent[3:35]

    @property
    def span_id(self) -> str:
        """16 hexadecimal digits."""
        return self.traceparent[36:52]

    def note(self, name: str, value: str | int) -> None:
        """An attribute that was not known at the beginning."""
        self._span.set_attribute(name, value)

    def end(self, error: str | None = None) -> None:
        """It is over; with ``error``, which names a kind of failure, badly. A second time does nothing."""
        if not self._span.is_recording():
            return
        if error is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


#: The span that what runs now belongs to, if that is one.
CURRENT: ContextVar[Span | None] = ContextVar("countersign_span", default=None)


@contextmanager
def doing(span: Span | None) -> Iterator[None]:
    """What is done inside belongs to the span, which goes on afterwards; nothing changes for None."""
    if span is None:
        yield
        return
    token = CURRENT.set(span)
    try:
        yield
    finally:
        CURRENT.reset(token)


class Tracer:
    """Makes the spans of one service. ``ratio``: the share of actions that are followed though nobody asked for it."""

    def __init__(self, service: str, version: str, instance: str, url: str | None, ratio: float) -> None:
        self.on = bool(url)
        self._ratio = ratio
        self._resource = {
            "service.namespace": "countersign",
            "service.name": service,
            "service.version": version,
            "service.instance.id": instance,
        }
        self._url = url
        self._provider: TracerProvider | None = None

    def chosen(self, given: str | None) -> bool:
        """Whether what comes in with this context is followed: as its caller decided, else by chance."""
        if not self.on:
            return False
        return sampled(given) if given is not None else random.random() < self._ratio  # noqa: S311  (no secret)

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: str | None,
        attributes: Attributes | None = None,
        *,
        link: str | None = None,
    ) -> Span | None:
        """A span under ``parent``, if that is followed; ``link`` names another trace that it came of as well."""
        return self._begin(name, kind, parent, attributes, link) if self.on and sampled(parent) else None

    def begin_here(self, name: str, given: str | None, attributes: Attributes | None = None) -> Span | None:
        """A span for what comes in, the first of its trace if nobody gave one; None if it is not followed."""
        return self._begin(name, "SERVER", given, attributes, None) if self.chosen(given) else None

    @contextmanager
    def within(self, span: Span | None) -> Iterator[Span | None]:
        """What is done inside belongs to the span, which ends with it; nothing is done for None."""
        if span is None:
            yield None
            return
        try:
            with doing(span):
                yield span
        except BaseException as error:
            span.end(type(error).__name__)
            raise
        else:
            span.end()

    def close(self) -> None:
        """Send what waits; takes as long as the receiver's timeout at most. Blocks."""
        if self._provider is not None:
            self._provider.shutdown()
            # the SDK's processor starts its thread anew in every child that is forked, for as long as it is kept
            self._provider = None
        self.on = False

    def _begin(
        self, name: str, kind: Kind, parent: str | None, attributes: Attributes | None, link: str | None
    ) -> Span:
        from opentelemetry import trace

        context = trace.set_span_in_context(trace.NonRecordingSpan(_context(parent)))
        links = [trace.Link(_context(link))] if link is not None else []
        tracer = self._started().get_tracer("countersign")
        span = tracer.start_span(
            name, context=context, kind=getattr(trace.SpanKind, kind), attributes=dict(attributes or {}), links=links
        )
        return Span(span)

    def _started(self) -> TracerProvider:
        if self._provider is None:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ALWAYS_ON

            from .otlp import OtlpExporter

            # whether it is followed was decided before
            self._provider = TracerProvider(ALWAYS_ON, Resource(self._resource), shutdown_on_exit=False)
            self._provider.add_span_processor(
                BatchSpanProcessor(OtlpExporter(self._url or ""), schedule_delay_millis=1000, max_queue_size=8192)
            )
        return self._provider


#: For whoever has no receiver.
NO_TRACES = Tracer("none", "0", "none", None, 0.0)


def messaging(
    stream: str, operation: str, type: str, message_id: str, event_type: str, request_id: str
) -> dict[str, str | int]:
    """Attributes after OpenTelemetry's semantic conventions for messaging, and which action it is about."""
    return {
        "messaging.system": "nats",
        "messaging.operation.name": operation,
        "messaging.operation.type": type,
        "messaging.destination.name": stream,
        "messaging.message.id": message_id,
        "cloudevents.event_type": event_type,
        "countersign.request_id": request_id,
    }


def _context(traceparent: str | None) -> SpanContext:
    from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, TraceFlags

    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match is None:
        return INVALID_SPAN_CONTEXT
    return SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=TraceFlags(int(match[3], 16)))


def log_fields() -> dict[str, Any]:
    """What a log line says of the trace that it belongs to."""
    span = CURRENT.get()
    return {} if span is None else {"trace_id": span.trace_id, "span_id": span.span_id}
