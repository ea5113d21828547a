"""The bus as a service sees it in account CORE: publish signed events, ask other services, answer them."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import nats.errors
from nats.aio.msg import Msg

from countersign_contracts.command import COMMANDS, Command, passed_on, problem_bytes, read_reply, reply_bytes
from countersign_contracts.envelope import Envelope, Unverifiable, seal, seal_event, signed_anew, source_of
from countersign_contracts.errors import CountersignError, Malformed, Refused, Unavailable
from countersign_contracts.event import Event
from countersign_contracts.ids import new_id
from countersign_contracts.model import Frozen, now
from countersign_ledger import SigningKey, TrustBundle

from .connection import NatsConnection, Outgoing
from .measured import CommandMetrics, Outcome, outcome_of
from .metrics import Metrics
from .outages import OUTAGES
from .tracing import CURRENT, NO_TRACES, Span, Tracer, messaging, sampled

#: A command older than this is refused, whoever sends it: it was replayed, or its sender gave up long ago.
COMMAND_MAX_AGE = timedelta(seconds=60)

C = TypeVar("C", bound=Command)
Handler = Callable[[Any, str], Awaitable[Frozen]]


class Bus:
    """Signed events and commands over one connection. Everything sent is signed, everything received is verified."""

    def __init__(
        self,
        url: str,
        creds_file: Path | None,
        key: SigningKey,
        trust: TrustBundle,
        log: Any,
        name: str | None = None,
        instance: str | None = None,
        metrics: Metrics | None = None,
        tracer: Tracer = NO_TRACES,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tracer = tracer
        self._measures = CommandMetrics(metrics) if metrics is not None else None
        self.connection = NatsConnection(url, creds_file, name or key.service, log, instance, tls)
        self._key = key
        self._trust = trust
        self._log = log
        self._answering: set[asyncio.Task[None]] = set()

    async def publish(self, event: Event, traceparent: str | None = None) -> None:
        """Sign and publish one event; returns once the stream has it. Publishing the same event again is harmless."""
        await self.publish_all([(event, traceparent)])

    async def publish_all(self, events: Sequence[tuple[Event, str | None]], *, attempt: str = "") -> None:
        """Several events at once, each with its trace; ``attempt`` as for :meth:`publish_sealed`."""
        at = now()
        await self.publish_sealed(
            [
                (
                    event.nats_subject(),
                    event.spec.stream,
                    seal_event(event, time=at, key=self._key, traceparent=trace),
                )
                for event, trace in events
            ],
            attempt=attempt,
        )

    def seal(self, event: Event, traceparent: str | None = None) -> Envelope:
        """Sign an event without publishing it, to store exactly what will be published."""
        return seal_event(event, time=now(), key=self._key, traceparent=traceparent)

    async def publish_sealed(self, messages: Sequence[tuple[str, str, Envelope]], *, attempt: str = "") -> None:
        """Publish envelopes as they are: ``(subject, stream, envelope)``.

        ``attempt`` makes the stream's deduplication let a deliberate repeat through: it is added to ``Nats-Msg-Id``,
        never to the event's id.
        """
        outgoing = []
        spans: list[Span] = []
        for subject, stream, kept in messages:
            envelope = self._signed_now(kept)
            headers = envelope.headers()
            if (span := self._publishing(stream, envelope)) is not None:
                spans.append(span)
                headers["traceparent"] = span.traceparent
            headers["Nats-Expected-Stream"] = stream
            if attempt:
                headers["Nats-Msg-Id"] = f"{envelope.id}#{attempt}"
            outgoing.append(Outgoing(subject, envelope.body, headers))
        if outgoing:
            try:
                await self.connection.publish_to_stream(outgoing)
            finally:
                for span in spans:
                    span.end()

    def _signed_now(self, envelope: Envelope) -> Envelope:
        """The envelope; of a key that was rotated since it was kept, signed by the present one."""
        if envelope.keyid == self._key.kid:
            return envelope
        try:
            return signed_anew(envelope, self._trust, self._key)
        except (Unverifiable, Malformed) as error:
            # sent as it was kept: whoever takes it refuses it, and audit puts it on record
            self._log.error("a kept event is not this service's own", event_id=envelope.id, reason=error.detail)
            return envelope

    def _publishing(self, stream: str, envelope: Envelope) -> Span | None:
        if not sampled(envelope.traceparent):
            return None
        # what a person did belongs to a trace of its own; the action's names it
        here = CURRENT.get()
        other = here is not None and here.trace_id not in (envelope.traceparent or "")
        return self._tracer.begin(
            f"publish {stream}",
            "PRODUCER",
            envelope.traceparent,
            messaging(stream, "publish", "send", envelope.id, envelope.type, envelope.subject),
            link=here.traceparent if here is not None and other else None,
        )

    async def ask(self, command: Command, *, timeout_s: float | None = None) -> Any:
        """Send a command; returns its reply model.

        Raises the :class:`CountersignError` that was answered, or :class:`Unavailable` when nobody answers in time.
        """
        return read_reply(await self._asked(command, timeout_s), command.reply)

    async def ask_bytes(self, command: Command, *, timeout_s: float | None = None) -> bytes:
        """Send a command; returns its reply as it was written, to be handed on unread. Raises as :meth:`ask` does."""
        reply = await self._asked(command, timeout_s)
        if (passed := passed_on(reply)) is not None:
            return passed
        return read_reply(reply, command.reply).to_bytes()

    async def _asked(self, command: Command, timeout_s: float | None) -> bytes:
        rpc = command.rpc
        here = CURRENT.get()
        envelope = seal(
            command.to_bytes(),
            id=new_id(),
            type=rpc.type,
            subject=rpc.subject,
            time=now(),
            key=self._key,
            traceparent=here.traceparent if here is not None else None,
        )
        try:
            reply = await self.connection.request(
                rpc.subject, envelope.body, envelope.headers(), timeout_s or rpc.timeout_s
            )
        except nats.errors.NoRespondersError:
            raise Unavailable(f"the {rpc.service} service is not running; try again in a moment") from None
        except nats.errors.MaxPayloadError:
            message = f"`{rpc.verb}` with {len(envelope.body)} bytes is larger than the bus carries: send less at once"
            raise CountersignError(message, code="too_large") from None
        except (TimeoutError, nats.errors.Error, OSError):
            raise Unavailable(f"the {rpc.service} service did not answer `{rpc.verb}` in time") from None
        return reply.data

    def tell(self, subject: str, word: Frozen) -> None:
        """Say something on plain NATS, unsigned: only for a subject that nobody else may publish on. It may be lost."""
        with suppress(nats.errors.Error):
            self.connection.client.send(subject, word.to_bytes())

    async def hear(self, subject: str, listener: Callable[[bytes], None]) -> None:
        """Call ``listener`` with all that is told on ``subject``, beside every other process that hears it."""
        await self.connection.client.listen(subject, lambda msg: listener(msg.data))

    async def answer(self, kind: type[C], handler: Callable[[C], Awaitable[Frozen]]) -> None:
        """Answer a command: verified first, each in a task of its own, errors as problems."""
        await self.answer_caller(kind, lambda command, _: handler(command))

    async def answer_caller(self, kind: type[C], handler: Callable[[C, str], Awaitable[Frozen]]) -> None:
        """Answer a command for which it matters who asks: the handler gets the service whose key signed it, too."""

        def receive(msg: Msg) -> None:
            task = asyncio.create_task(self._respond(msg, kind, cast(Handler, handler)))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

        if self._measures is not None:
            self._measures.expect(kind.rpc.type)
        await self.connection.client.listen(kind.rpc.subject, receive, queue=kind.rpc.service)

    async def _respond(self, msg: Msg, kind: type[Command], handler: Handler) -> None:
        began = time.perf_counter()
        outcome: Outcome = "ok"
        given = (msg.headers or {}).get("traceparent")
        span = self._tracer.begin(f"answer {kind.rpc.subject}", "SERVER", given, {"rpc.method": kind.rpc.type})
        try:
            with self._tracer.within(span):
                body = reply_bytes(await handler(*self._read(msg, kind)))
        except CountersignError as error:
            outcome = outcome_of(error)
            body = problem_bytes(error)
        except OUTAGES as error:
            outcome = "unavailable"
            self._log.warning("command failed for an outage", command=kind.rpc.type, error=str(error))
            body = problem_bytes(Unavailable(f"the {kind.rpc.service} service cannot reach its database; try again"))
        except Exception as error:
            outcome = "failed"
            self._log.exception("command failed", command=kind.rpc.type, error=str(error))
            body = problem_bytes(CountersignError(f"the {kind.rpc.service} service failed; its log says why"))
        if self._measures is not None:
            self._measures.observe(kind.rpc.type, outcome, time.perf_counter() - began)
        try:
            self.connection.client.send(msg.reply, body)
        except nats.errors.Error as error:
            self._log.warning("reply not sent", command=kind.rpc.type, error=str(error))

    def _read(self, msg: Msg, kind: type[Command]) -> tuple[Command, str]:
        """The command, and the service that signed it."""
        envelope = Envelope.read(msg.headers, msg.data)
        envelope.verify(self._trust)
        if envelope.type != kind.rpc.type or COMMANDS.get(envelope.type) is not kind:
            raise Refused(f"{msg.subject} takes {kind.rpc.type}, not {envelope.type}")
        caller = envelope.source.removeprefix(source_of(""))
        age = datetime.now(UTC) - datetime.fromisoformat(envelope.time)
        if abs(age) > COMMAND_MAX_AGE:
            # whoever asked at the caller's door did nothing wrong: they are to come back
            raise Unavailable(
                f"service {caller} made its command {age.total_seconds():.0f} s ago by the clock of service"
                f" {kind.rpc.service}, and {COMMAND_MAX_AGE.seconds} s are allowed: their clocks differ, or it was"
                " replayed"
            )
        return kind.from_bytes(envelope.body), caller
