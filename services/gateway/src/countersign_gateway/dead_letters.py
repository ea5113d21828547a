"""Dead letters as people see them and end them: listed, handled again by their own service, or dropped for a reason.

The stream is the record of what is open: a letter leaves it only once it is in the ledger, and so is who ended it.

Not here: handling a message again, which only the service that gave up on it can do.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from dataclasses import dataclass
from typing import Any, Literal

from prometheus_client import Gauge

from countersign_chassis import Bus
from countersign_chassis.stored import StoredMessage, StoredMessages
from countersign_contracts.commands import ConfirmOnRecord, Receipt
from countersign_contracts.control import DeadLetterDropped, DeadLettered, DeadLetterRedriven
from countersign_contracts.dead_letter_commands import REDRIVES, TRUNCATED, Redriven
from countersign_contracts.envelope import Envelope, open_event
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.model import Frozen, Time, now
from countersign_contracts.topology import CONSUMERS, consumer
from countersign_ledger import TrustBundle

STREAM = "DEADLETTER"
#: How often the open letters are counted, in seconds.
COUNT_EVERY_S = 5.0


class DeadLetter(Frozen):
    """A message that a service gave up on. ``why_not``: why it cannot be redriven, only dropped."""

    seq: int
    stream: str
    consumer: str
    stream_seq: int
    subject: str
    reason: str
    tries: int
    at: Time
    redrivable: bool
    why_not: str | None = None


class DeadLetterContent(DeadLetter):
    """The letter with the message in it, as it was received. ``text`` is its body, where that is text."""

    headers: dict[str, str]
    body: str
    text: str | None = None


class RedriveResult(Frozen):
    """What became of the message.

    `handled`: the dead letter is gone. `failed`: the service gave up on it again, and it is a dead letter anew, under
    the number `again` and with one more try. `postponed`: it could not be tried to the end, and the letter stays.
    """

    seq: int
    outcome: Literal["handled", "failed", "postponed"]
    reason: str | None = None
    tries: int | None = None
    again: int | None = None


class DeadLetterPage(Frozen):
    """Oldest first."""

    items: tuple[DeadLetter, ...]
    next: int | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """A letter of the stream: as it is stored, and what it says if its signature holds."""

    stored: StoredMessage
    letter_id: str
    letter: DeadLettered | None
    fault: str | None


class DeadLetters:
    """``run`` counts what is open, for as long as the service lives."""

    def __init__(self, stored: StoredMessages, bus: Bus, trust: TrustBundle, count: Gauge, oldest: Gauge) -> None:
        self._stored = stored
        self._bus = bus
        self._trust = trust
        self._count = count
        self._oldest = oldest

    async def page(self, *, stream: str | None, reader: str | None, after: int, limit: int) -> DeadLetterPage:
        """Open letters after a sequence, oldest first. Raises `invalid` for a stream or consumer that is none."""
        subject = f"deadletter.{_known(stream, 'stream')}.{_known(reader, 'consumer')}"
        items: list[DeadLetter] = []
        seq = after + 1
        while (message := await self._stored.next(seq, subject)) is not None:
            if len(items) == limit:
                return DeadLetterPage(items=tuple(items), next=items[-1].seq)
            items.append(DeadLetter(**_summary(self._open(message))))
            seq = message.seq + 1
        return DeadLetterPage(items=tuple(items))

    async def show(self, seq: int) -> DeadLetterContent:
        """One letter with its message; raises `not_found`."""
        found = await self._find(seq)
        letter = found.letter
        body = letter.body if letter else ""
        return DeadLetterContent(
            **_summary(found), headers=letter.headers if letter else {}, body=body, text=_text(b64decode(body))
        )

    async def redrive(self, seq: int, by: str, reason: str) -> RedriveResult:
        """Have its own service handle the message again; unless that was put off, this letter goes.

        Raises `not_found`, `conflict` for a letter that cannot be redriven, and :class:`Unavailable`.
        """
        found = await self._find(seq)
        letter, summary = found.letter, _summary(found)
        if letter is None or not summary["redrivable"]:
            raise CountersignError(f"dead letter {seq} cannot be redriven: {summary['why_not']}", code="conflict")
        await self._require_on_record(found)
        kind = REDRIVES[consumer(letter.consumer).service]
        order = _order(found, by, reason)
        try:
            redriven: Redriven = await self._bus.ask(
                kind(headers=found.stored.headers, body=found.stored.body.decode())
            )
        except CountersignError as error:
            if error.code == "unavailable":  # perhaps it is being handled all the same
                await self._bus.publish(DeadLetterRedriven(**order, outcome="unanswered", detail=error.detail[:2000]))
            raise
        await self._bus.publish(DeadLetterRedriven(**order, outcome=redriven.outcome, detail=redriven.reason))
        again = None
        if redriven.outcome == "handled" or redriven.letter is not None:
            again = await self._number_of(redriven.letter, found.stored.subject)
            await self._stored.delete(seq)
        return RedriveResult(
            seq=seq, outcome=redriven.outcome, reason=redriven.reason, tries=redriven.tries, again=again
        )

    async def drop(self, seq: int, by: str, reason: str) -> None:
        """End the letter unhandled. Raises `not_found` and :class:`Unavailable`."""
        found = await self._find(seq)
        await self._require_on_record(found)
        await self._bus.publish(DeadLetterDropped(**_order(found, by, reason)))
        await self._stored.delete(seq)

    async def run(self) -> None:
        """Count for ever."""
        while True:
            state = await self._stored.state()
            for each in CONSUMERS:
                self._count.labels(each.name).set(state.messages.get(f"deadletter.{each.stream}.{each.name}", 0))
            self._oldest.set((now() - state.oldest_at).total_seconds() if state.oldest_at else 0)
            await asyncio.sleep(COUNT_EVERY_S)

    async def _number_of(self, letter_id: str | None, subject: str) -> int | None:
        """Where the letter stands, unless others of its kind came after it."""
        last = await self._stored.last(subject) if letter_id is not None else None
        return last.seq if last is not None and self._open(last).letter_id == letter_id else None

    async def _find(self, seq: int) -> _Found:
        message = await self._stored.get(seq)
        if message is None:
            raise CountersignError(
                f"there is no dead letter {seq}; it may have been redriven, dropped, or expired", code="not_found"
            )
        return self._open(message)

    def _open(self, message: StoredMessage) -> _Found:
        unnamed = f"{STREAM}.{message.seq}"
        try:
            event = open_event(Envelope.read(message.headers, message.body), self._trust)
        except CountersignError as error:
            return _Found(message, unnamed, None, error.detail)
        if not isinstance(event, DeadLettered):
            return _Found(message, unnamed, None, f"it holds {event.spec.type}, which is no dead letter")
        return _Found(message, event.event_id(), event, None)

    async def _require_on_record(self, found: _Found) -> None:
        """What the ledger does not have is not removed from the stream. What nobody signed, it does not have."""
        if found.letter is None:
            return
        receipt: Receipt = await self._bus.ask(ConfirmOnRecord(event_ids=(found.letter_id,), wait_s=3))
        if found.letter_id not in receipt.event_ids:
            raise Unavailable("the ledger does not have this dead letter yet, so it stays; try again in a moment")


def _known(name: str | None, what: str) -> str:
    names = sorted({getattr(c, "stream" if what == "stream" else "name") for c in CONSUMERS})
    if name is not None and name not in names:
        raise CountersignError(f"there is no {what} {name!r}; there are {', '.join(names)}", code="invalid")
    return name or "*"


def _summary(found: _Found) -> dict[str, Any]:
    letter, seq = found.letter, found.stored.seq
    if letter is None:
        _, stream, consumer = found.stored.subject.split(".", 2)
        fault = f"no service's signature stands for it ({found.fault})"
        return {
            "seq": seq,
            "stream": stream,
            "consumer": consumer,
            "stream_seq": 0,
            "subject": "",
            "reason": fault,
            "tries": 0,
            "at": found.stored.at,
            "redrivable": False,
            "why_not": fault,
        }
    why_not = None
    if letter.truncated:
        why_not = TRUNCATED
    elif all(c.name != letter.consumer for c in CONSUMERS):
        why_not = f"this version has no consumer {letter.consumer}"
    fields = letter.model_dump(include={"stream", "consumer", "stream_seq", "subject", "reason", "tries", "at"})
    return {**fields, "seq": seq, "redrivable": why_not is None, "why_not": why_not}


def _order(found: _Found, by: str, reason: str) -> dict[str, Any]:
    summary = _summary(found)
    kept = {name: summary[name] for name in ("seq", "stream", "consumer", "stream_seq", "subject")}
    return {**kept, "letter": found.letter_id, "by": by, "reason": reason, "at": now()}


def _text(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
