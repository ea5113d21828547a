"""One message from a durable consumer, and how it is settled: acked, given back, or dead-lettered."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from nats.aio.msg import Msg

from countersign_contracts.envelope import Envelope
from countersign_contracts.event import Event
from countersign_contracts.topology import Consumer

from .tracing import Span, Tracer, messaging, sampled

#: How long before a message that failed for the n-th time comes again, in seconds.
BACKOFF_S = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

#: The same for what a service signed and this version cannot read, in seconds: while versions change, replicas of the
#: newer one take over within minutes. After the last of these it is dead-lettered.
UNREADABLE_S = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 240.0)


def backoff_s(tries: int) -> float:
    """The pause after the ``tries``-th failure (1-based)."""
    return BACKOFF_S[min(max(tries, 1), len(BACKOFF_S)) - 1]


class Settler(Protocol):
    """Who is told how a message was settled: the consumer that it came from."""

    def keep(self, delivery: RawDelivery) -> None: ...
    def forget(self, delivery: RawDelivery) -> None: ...
    def tell_server(self, reply: str, how: bytes) -> None: ...
    async def bury(self, delivery: RawDelivery, reason: str) -> object: ...


class RawDelivery:
    """A message as it arrived; nothing is verified."""

    __slots__ = ("_consumer", "_msg", "detached", "epoch", "settled", "span", "stream", "stream_seq", "time", "tries")

    def __init__(self, consumer: Settler, msg: Msg) -> None:
        self._consumer = consumer
        self._msg = msg
        # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>, ADR-15; with a domain
        # two more tokens stand before the stream
        tokens = msg.reply.split(".")
        shift = 2 if len(tokens) >= 11 else 0
        self.stream = tokens[2 + shift]
        self.tries = int(tokens[4 + shift])
        self.stream_seq = int(tokens[5 + shift])
        self.time = int(tokens[7 + shift])
        self.epoch = 0  # the stream's incarnation; for whoever keeps records of several to set
        self.settled = False
        self.detached = False
        self.span: Span | None = None  # of its handling, if its trace is followed

    @property
    def subject(self) -> str:
        """The concrete subject."""
        return self._msg.subject

    @property
    def headers(self) -> dict[str, str]:
        """The headers as received."""
        return self._msg.headers or {}

    @property
    def body(self) -> bytes:
        """The body as received: hash and store these bytes."""
        return self._msg.data

    @property
    def stored_at(self) -> datetime:
        """When the stream stored it."""
        return datetime.fromtimestamp(self.time / 1e9, UTC)

    def detach(self) -> None:
        """Keep the message beyond the handler's return; the consumer goes on telling the server it is in progress."""
        self.detached = True
        self._consumer.keep(self)

    async def ack(self) -> None:
        """Done with it."""
        await self._settle(b"")

    async def nak(self, delay_s: float | None = None) -> None:
        """Give it back for later; without a delay, after the backoff for its tries."""
        delay = backoff_s(self.tries) if delay_s is None else delay_s
        await self._settle(b'-NAK {"delay": %d}' % int(delay * 1e9))

    async def dead(self, reason: str) -> None:
        """Dead-letter it with the reason, then be done with it."""
        await self._consumer.bury(self, reason)
        await self._settle(b"+TERM")

    async def in_progress(self) -> None:
        """Tell the server that it is still being worked on."""
        if not self.settled:
            self._consumer.tell_server(self._msg.reply, b"+WPI")

    async def _settle(self, how: bytes) -> None:
        if not self.settled:
            self.settled = True
            self._consumer.forget(self)
            if self.span is not None:
                self.span.end({b"-": "given_back", b"+": "dead_lettered"}.get(how[:1]))
            self._consumer.tell_server(self._msg.reply, how)


#: Verifies an envelope, and reads its event; it is told when the stream stored it.
Opener = Callable[[Envelope, datetime], Event]


class Delivery(RawDelivery):
    """A verified event."""

    __slots__ = ("envelope", "event")

    def __init__(self, consumer: Settler, msg: Msg, open_event: Opener) -> None:
        """Raises what reading the envelope does, and ``open_event``."""
        super().__init__(consumer, msg)
        self.envelope = Envelope.read(msg.headers, msg.data)
        self.event: Any = open_event(self.envelope, self.stored_at)


def follow(delivery: RawDelivery, tracer: Tracer, consumer: Consumer) -> None:
    """Begin the span that ends when the message is settled, if its trace is followed: what comes of it follows that."""
    told = delivery.headers
    traceparent = told.get("traceparent")
    if not sampled(traceparent):
        return
    about = messaging(
        consumer.stream,
        "process",
        "process",
        told.get("ce-id", ""),
        told.get("ce-type", ""),
        told.get("ce-subject", ""),
    )
    about |= {"messaging.consumer.group.name": consumer.name, "messaging.nats.delivered": delivery.tries}
    delivery.span = tracer.begin(f"process {consumer.name}", "CONSUMER", traceparent, about)
    if delivery.span is not None and isinstance(delivery, Delivery):
        delivery.envelope = dataclasses.replace(delivery.envelope, traceparent=delivery.span.traceparent)


RawHandler = Callable[[list[RawDelivery]], Awaitable[None]]
Handler = Callable[[list[Delivery]], Awaitable[None]]
