"""Follows one stream without a gap: what its consumer did not bring, or not yet, is read by its sequence.

A consumer brings most messages in order. But after a crash those that were in flight come again only when their time
is up, behind newer ones. The ledger is to have every message in the stream's order, at once: so a gap is filled when
it shows.

Not here: what the messages say.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import nats.errors
import orjson
from nats.aio.client import Client

from countersign_chassis import RawDelivery
from countersign_chassis.stored import read_headers, read_time
from countersign_contracts.errors import Unavailable
from countersign_contracts.topology import Consumer

from .arrival import Message

_TIMEOUT_S = 2.0
#: A gap that cannot be read is left after so many attempts: its messages come later, from the consumer.
_ATTEMPTS = 3
_NO_MESSAGE = 10037
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ReadMessage:
    """A message read from its stream by sequence. ``tries``: whether it was delivered before is not known."""

    stream: str
    epoch: int
    stream_seq: int
    subject: str
    headers: dict[str, str]
    body: bytes
    stored_at: datetime
    tries: int = 2


class Bus(Protocol):
    """Where the present NATS client is found (``countersign_chassis.connection.NatsConnection`` is one)."""

    @property
    def client(self) -> Client: ...


class Followed:
    """One stream: ``last`` is the sequence up to which everything was passed on, in the incarnation ``epoch``.

    ``epoch`` is the stream's creation in Unix seconds: wiped and made again, it counts from 1 anew, and has another
    one.
    """

    def __init__(self, spec: Consumer, bus: Bus, log: Any) -> None:
        self.spec = spec
        self._bus = bus
        self._log = log
        self._doubtful = False
        self._epoch_before = 0
        self._created = 0
        self.epoch = 0
        self.last = 0

    async def begin(self, recorded: Callable[[str, int], Awaitable[int]]) -> None:
        """Go on where the record ends: ``recorded`` tells the last sequence on record of a stream's incarnation.

        Raises :class:`Unavailable`.
        """
        self._created = await self._incarnation()
        self.epoch = self._created // _NANOSECONDS
        self.last = await recorded(self.spec.stream, self.epoch)
        self._doubtful = False

    def doubt(self) -> None:
        """The server was away: the stream may be another one when it comes back."""
        self._doubtful = True

    async def completed(self, messages: Sequence[RawDelivery]) -> list[Message]:
        """These messages, each after those that stand before it in the stream and were not passed on yet.

        Raises :class:`Unavailable` if the server does not say which stream it is.
        """
        await self._make_sure()
        whole: list[Message] = []
        for message in messages:
            if message.time < self._created:
                # it arrived before the server went away, and is older than the stream that came back
                message.epoch = self._epoch_before
                whole.append(message)
                continue
            message.epoch = self.epoch
            if message.stream_seq > self.last + 1:
                whole += await self._between(self.last + 1, message.stream_seq - 1)
            whole.append(message)
            self.last = max(self.last, message.stream_seq)
        return whole

    async def in_flight(self) -> list[Message]:
        """What was delivered to somebody and not passed on here. Raises :class:`Unavailable`."""
        await self._make_sure()
        info = await self._ask(f"$JS.API.CONSUMER.INFO.{self.spec.stream}.{self.spec.name}", b"")
        delivered = int(info["delivered"]["stream_seq"])
        if delivered <= self.last:
            return []
        messages = await self._between(self.last + 1, delivered)
        self.last = delivered
        return messages

    async def _make_sure(self) -> None:
        if self._doubtful:
            created = await self._incarnation()
            if created != self._created:
                self._epoch_before, self.epoch, self.last = self.epoch, created // _NANOSECONDS, 0
                self._created = created
            self._doubtful = False

    async def _incarnation(self) -> int:
        """The stream's creation, in nanoseconds: a message of the second in which it was wiped may be older."""
        info = await self._ask(f"$JS.API.STREAM.INFO.{self.spec.stream}", b"")
        seconds, fraction = info["created"][:19], info["created"][19:].strip(".Z")
        return int(datetime.fromisoformat(seconds + "+00:00").timestamp()) * _NANOSECONDS + int(fraction.ljust(9, "0"))

    async def _between(self, first: int, last: int) -> list[Message]:
        """The stream's messages from ``first`` to ``last``; those that it does not have any more are left out."""
        found: list[Message] = []
        attempt = 1
        while first <= last:
            try:
                message = await self._read(first)
            except Unavailable as error:
                if attempt == _ATTEMPTS:
                    self._log.warning(
                        "gap not filled", stream=self.spec.stream, first=first, last=last, reason=error.detail
                    )
                    break
                attempt += 1
                await asyncio.sleep(0.1 * attempt)
                continue
            if message is None or message.stream_seq > last:
                break
            found.append(message)
            first = message.stream_seq + 1
        return found

    async def _read(self, seq: int) -> ReadMessage | None:
        """The message at ``seq``, or the next one after it; None if there is none."""
        request = orjson.dumps({"seq": seq, "next_by_subj": ">"})
        answer = await self._ask(f"$JS.API.STREAM.MSG.GET.{self.spec.stream}", request)
        if (message := answer.get("message")) is None:
            return None
        return ReadMessage(
            stream=self.spec.stream,
            epoch=self.epoch,
            stream_seq=int(message["seq"]),
            subject=message["subject"],
            headers=read_headers(b64decode(message.get("hdrs", ""))),
            body=b64decode(message.get("data", "")),
            stored_at=read_time(message["time"]),
        )

    async def _ask(self, subject: str, body: bytes) -> dict[str, Any]:
        try:
            reply = await self._bus.client.request(subject, body, timeout=_TIMEOUT_S)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise Unavailable(f"{subject} is not answered: {error}") from None
        answer: dict[str, Any] = orjson.loads(reply.data)
        if (refusal := answer.get("error")) is not None and refusal.get("err_code") != _NO_MESSAGE:
            raise Unavailable(f"{subject}: {refusal.get('description')}")
        return answer
