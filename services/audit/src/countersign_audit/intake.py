"""The streams that feed the ledger: all of account CORE's, and only while this replica writes.

A replica that stands by must not pull: what it took would wait for nothing. So the consumers come and go with the lock.
"""

from __future__ import annotations

import asyncio
from functools import partial

from countersign_chassis import RawDelivery, Service
from countersign_chassis.consumer import EventConsumer
from countersign_contracts.errors import Unavailable
from countersign_contracts.topology import CONSUMERS

from .appender import Appender, StandingBy
from .arrival import Message, examine
from .following import Followed
from .store import LedgerStore

#: Handled at once, of each stream: while one batch is being committed, the next is being verified.
BATCHES_AT_ONCE = 4
MAX_BATCH = 64
#: After this long a message that was given back comes again, to whoever writes then.
GIVE_BACK_S = 0.2


class _Stream:
    """One stream: how far it is followed, and whose turn it is (batches are handed in, one after the other)."""

    def __init__(self, followed: Followed) -> None:
        self.followed = followed
        self.turn = asyncio.Lock()
        self.consumer: EventConsumer | None = None


class Intake:
    """Takes messages, hands them to the appender in their streams' order, and acknowledges what is on record."""

    def __init__(self, service: Service, store: LedgerStore, appender: Appender) -> None:
        self._service = service
        self._store = store
        self._appender = appender
        self._running = False
        self._streams = [
            _Stream(Followed(spec, service.bus.connection, service.log))
            for spec in CONSUMERS
            if spec.service == service.name
        ]
        service.bus.connection.on_reconnect(self._reconnected)

    async def start(self) -> None:
        """Begin to take messages; nothing if it does already. Raises if a consumer is not as the topology says."""
        if self._running:
            return
        self._running = True
        try:
            for stream in self._streams:
                await self._start(stream)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Take nothing more, and give back what was not begun."""
        self._running = False
        for stream in self._streams:
            consumer, stream.consumer = stream.consumer, None
            if consumer is not None:
                await consumer.stop(self._service.settings.shutdown_grace_s)

    async def _start(self, stream: _Stream) -> None:
        await stream.followed.begin(self._store.last_of)
        await self._catch_up(stream)
        stream.consumer = self._service.consume_raw(
            stream.followed.spec.name, partial(self.take, stream), max_batch=MAX_BATCH, concurrency=BATCHES_AT_ONCE
        )
        await stream.consumer.start()

    async def take(self, stream: _Stream, messages: list[RawDelivery]) -> None:
        """Verify, hand in, and return (which acknowledges) when all are on record."""
        try:
            async with stream.turn:
                recorded = self._hand_in(await stream.followed.completed(messages))
            await recorded
        except (StandingBy, Unavailable):
            for message in messages:
                await message.nak(GIVE_BACK_S)
            return
        await self._service.failpoints.hit("audit.after_commit_before_ack")

    def _hand_in(self, messages: list[Message]) -> asyncio.Future[None]:
        trust = self._service.trust
        return self._appender.submit([examine(message, trust) for message in messages])

    async def _catch_up(self, stream: _Stream) -> None:
        """Record what was in flight when its reader went away, without waiting until it is delivered again."""
        async with stream.turn:
            if messages := await stream.followed.in_flight():
                self._service.log.info(
                    "reading what was in flight", stream=stream.followed.spec.stream, messages=len(messages)
                )
                # nobody waits: its outcome shows in the ledger, and the consumer brings these again
                _ = self._hand_in(messages)

    async def _reconnected(self) -> None:
        for stream in self._streams:
            stream.followed.doubt()
        for stream in self._streams:
            if stream.consumer is None:
                continue
            try:
                await self._catch_up(stream)
            except (Unavailable, StandingBy) as error:
                name = stream.followed.spec.stream
                self._service.log.warning("what was in flight comes later", stream=name, reason=str(error))
