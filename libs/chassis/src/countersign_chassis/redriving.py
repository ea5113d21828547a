"""A dead letter handled again by the service that wrote it, as a delivery whose settling is the answer.

Not here: where dead letters are kept, and who may have them redriven.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Iterable
from typing import Any

from nats.aio.msg import Msg

from countersign_contracts.control import DeadLettered
from countersign_contracts.dead_letter_commands import TRUNCATED, RedriveDeadLetter, Redriven
from countersign_contracts.envelope import Envelope, open_event, source_of
from countersign_contracts.errors import CountersignError, Malformed, Refused, Unavailable
from countersign_ledger import TrustBundle

from .bus import Bus
from .consumer import EventConsumer
from .dead_letter import error_line
from .delivery import RawDelivery
from .outages import OUTAGES

#: A handler that keeps the message for longer goes on; its dead letter stays, and may be redriven again.
WAIT_S = 25.0


class _Settled:
    """Stands where the consumer does, and notes how the message was settled: that is the answer."""

    def __init__(self, consumer: EventConsumer) -> None:
        self._consumer = consumer
        self.answer: asyncio.Future[Redriven] = asyncio.get_running_loop().create_future()

    def keep(self, _: RawDelivery) -> None:
        """No server waits for it."""

    def forget(self, _: RawDelivery) -> None:
        """No server waits for it."""

    def tell_server(self, _: str, how: bytes) -> None:
        """Read what a server would be told (NATS ADR-15)."""
        if how == b"":
            self._say(Redriven(outcome="handled"))
        elif how.startswith(b"-NAK"):
            self._say(_postponed("it was given back: what it needs is not there now"))

    async def bury(self, delivery: RawDelivery, reason: str) -> None:
        """It failed again: another dead letter, with one more try."""
        letter = await self._consumer.bury(delivery, reason)
        self._say(Redriven(outcome="failed", reason=reason[:2000], tries=delivery.tries, letter=letter))

    def _say(self, answer: Redriven) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


class Redriving:
    """Answers :class:`RedriveDeadLetter` for the consumers of one service."""

    def __init__(self, service: str, trust: TrustBundle, consumers: Iterable[EventConsumer], log: Any) -> None:
        self._service = service
        self._trust = trust
        self._consumers = consumers
        self._log = log

    async def start(self, bus: Bus, kind: type[RedriveDeadLetter]) -> None:
        """Answer from now on."""
        await bus.answer(kind, self.redrive)

    async def redrive(self, command: RedriveDeadLetter) -> Redriven:
        """Run the handler on the message. Raises what is wrong with the letter; a handler's failure is the answer."""
        letter = self._letter(command)
        if letter.truncated:
            raise CountersignError(TRUNCATED, code="conflict")
        consumer = self._consumer(letter.consumer)
        redriven = await self._handle(consumer, _message(letter))
        self._log.info(
            "redrove a dead letter",
            consumer=letter.consumer,
            subject=letter.subject,
            outcome=redriven.outcome,
            reason=redriven.reason,
        )
        return redriven

    async def _handle(self, consumer: EventConsumer, message: Msg) -> Redriven:
        settled = _Settled(consumer)
        delivery = RawDelivery(settled, message)
        try:
            delivery = consumer.opened(message, settled)
            await consumer.handler([delivery])
            if not delivery.detached and not delivery.settled:
                await delivery.ack()
        except OUTAGES as error:
            return _postponed(error_line(error))
        except Exception as error:
            if not delivery.settled:
                await delivery.dead(error_line(error))
        await asyncio.wait({settled.answer}, timeout=WAIT_S)
        if settled.answer.done():
            return settled.answer.result()
        return _postponed(f"it is still being handled after {WAIT_S:.0f} s; look again, or redrive it again")

    def _letter(self, command: RedriveDeadLetter) -> DeadLettered:
        """The dead letter, which this service itself must have signed."""
        envelope = Envelope.read(command.headers, command.body.encode())
        # the gateway asks, which looked when it was stored
        event = open_event(envelope, self._trust, envelope.signed_at)
        if not isinstance(event, DeadLettered) or envelope.source != source_of(self._service):
            raise Refused(f"this is no dead letter of {self._service}'s")
        return event

    def _consumer(self, name: str) -> EventConsumer:
        running = [each for each in self._consumers if each.spec.name == name and each.running]
        if not running:
            raise Unavailable(f"this {self._service} does not take messages from {name} now; try again in a moment")
        return running[-1]


def _message(letter: DeadLettered) -> Msg:
    """The message as delivered once more; its reply says where it was, as a server would write it (NATS ADR-15)."""
    if letter.stored_at is None:
        raise Malformed("the dead letter does not say when the message was stored")
    at = int(letter.stored_at.timestamp() * 1e6) * 1000
    place = f"$JS.ACK.{letter.stream}.{letter.consumer}.{letter.tries + 1}.{letter.stream_seq}.0.{at}.0"
    return Msg(None, letter.subject, place, b64decode(letter.body), dict(letter.headers))  # type: ignore[arg-type]


def _postponed(reason: str) -> Redriven:
    return Redriven(outcome="postponed", reason=reason[:2000])
