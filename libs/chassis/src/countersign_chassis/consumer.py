"""The durable event path: one standing pull request, topped up at half, drained into batches.

A batch that fails is tried again message by message, so that one poison message harms no other; a message that failed
``max_tries`` times is dead-lettered with the reason (after far more if only what the service stands on was away). Acks
are no fence: handlers must be idempotent.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import nats.errors
import orjson
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from countersign_contracts.envelope import open_event
from countersign_contracts.errors import CountersignError, Malformed, Unreadable
from countersign_contracts.topology import Consumer
from countersign_ledger import TrustBundle

from .binding import bind
from .bus import Bus
from .client import NatsClient
from .connection import NatsConnection
from .dead_letter import dead_letter, error_line
from .delivery import UNREADABLE_S, Delivery, Opener, RawDelivery, Settler, follow
from .measured import ConsumerMetrics
from .outages import OUTAGES
from .tracing import NO_TRACES, Tracer, doing

_EXPIRES_S = 30.0
_HEARTBEAT_S = 2.0  # a node of a cluster that dies takes the standing pull along without a word
#: How often is asked whether a consumer that is gone was made anew.
_GONE_S = 0.5

#: Outages are tried again for hours rather than seconds.
_OUTAGE_FACTOR = 50


class EventConsumer:
    """Binds to a durable consumer of the topology and feeds a handler.

    ``skip`` may pass over messages by their headers, before anything is verified: only for what nobody relies on.
    ``room`` says how many may be handled now, and waits while that is none: what has not arrived stays in the stream.
    ``verify`` off hands :class:`RawDelivery` to the handler; on, events are verified and parsed first, and what fails
    that is dead-lettered at once: trying again would not mend it. What is verified and cannot be read is left for a
    replica of a newer version, for some minutes. ``opener`` does the verifying, where a service has
    verified some of these events already; the default is :func:`open_event`. ``bury_body`` off keeps bodies
    out of dead letters, where they may hold what must not go on record.
    """

    def __init__(
        self,
        spec: Consumer,
        connection: NatsConnection,
        bus: Bus,
        trust: TrustBundle,
        handler: Callable[[list[Any]], Awaitable[None]],
        metrics: ConsumerMetrics,
        log: Any,
        *,
        verify: bool,
        max_batch: int = 128,
        concurrency: int = 1,
        max_tries: int = 8,
        linger_s: float = 0.0,
        skip: Callable[[dict[str, str]], bool] | None = None,
        opener: Opener | None = None,
        bury_body: bool = True,
        room: Callable[[], Awaitable[int]] | None = None,
        tracer: Tracer = NO_TRACES,
    ) -> None:
        self._tracer = tracer
        self.spec = spec
        self._bury_body = bury_body
        self._connection = connection
        self._bus = bus
        self._open_event: Opener = opener or (lambda envelope, arrived: open_event(envelope, trust, arrived))
        self.handler = handler
        self._metrics = metrics.bound(spec.name)
        self._log = log.bind(consumer=spec.name)
        self._verify = verify
        self._max_batch = max_batch
        self._max_tries = max_tries
        self._linger_s = linger_s
        self._skip = skip
        self._room = room
        self._pull_size = max_batch * 2
        self._free = concurrency
        self._arrived: deque[Msg] = deque()
        self._beginning = False
        self._asked = 0
        self._last_heard = 0.0
        self._inbox = ""
        #: Why nothing can arrive; None while the server has the consumer, or is away itself.
        self.trouble: str | None = None
        self._subscription: Subscription | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._beginner: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._held: dict[int, RawDelivery] = {}
        self._stopping = False

    @property
    def client(self) -> NatsClient:
        """The NATS client that settles deliveries."""
        return self._connection.client

    @property
    def running(self) -> bool:
        """Whether it takes messages."""
        return self._subscription is not None and not self._stopping

    def oldest_stored(self) -> float | None:
        """When the stream stored the oldest message that is here and not settled (Unix time); None: none is."""
        if not self._held and not self._arrived:
            return None
        waiting = (RawDelivery(self, msg).time for msg in self._arrived)
        return min(*(delivery.time for delivery in self._held.values()), *waiting, time.time_ns()) / 1e9

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Compare the server's consumer with the topology, then pull. Raises :class:`Refused` where they differ,
        :class:`Unavailable` where JetStream does not answer.

        Does nothing a second time: a service may start one of its own before all are started.
        """
        if self._subscription is not None:
            return
        await bind(self.client, self.spec)
        self._inbox = self.client.new_inbox()
        self._subscription = await self.client.listen(self._inbox, self._receive)
        self._pull()
        self._connection.on_reconnect(self._restart_pull)
        self._watching = asyncio.create_task(self._watch())

    async def stop(self, grace_s: float) -> None:
        """Take nothing more, let running handlers finish, give back what was not begun."""
        self._stopping = True
        if self._watching is not None:
            self._watching.cancel()
        if self._beginning and self._beginner is not None:
            self._beginner.cancel()  # it waits for room, and has taken nothing yet
        if self._subscription is not None:
            try:
                await self._subscription.unsubscribe()
            except (nats.errors.Error, OSError) as error:
                self._log.debug("unsubscribe at stop", error=str(error))
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=grace_s)
            for task in unfinished:
                task.cancel()
        while self._arrived:
            self.tell_server(self._arrived.popleft().reply, b"-NAK")

    # --- pulling ----------------------------------------------------------------------------------

    def _pull(self) -> None:
        size = self._pull_size - self._asked
        if size <= 0:
            return
        self._asked += size
        self._last_heard = asyncio.get_running_loop().time()
        request = {
            "batch": size,
            "expires": int(_EXPIRES_S * 1e9),
            "idle_heartbeat": int(_HEARTBEAT_S * 1e9),
        }
        try:
            self.client.send(
                f"$JS.API.CONSUMER.MSG.NEXT.{self.spec.stream}.{self.spec.name}",
                orjson.dumps(request),
                reply=self._inbox,
            )
        except nats.errors.Error as error:  # asked again by the watch, or when the connection is back
            self._log.warning("cannot ask for messages", error=str(error))

    async def _restart_pull(self) -> None:
        self._pull_anew()

    def _pull_anew(self) -> None:
        if not self._stopping and self._connection.connected:
            self._asked = 0
            self._pull()

    def _receive(self, msg: Msg) -> None:
        self._last_heard = asyncio.get_running_loop().time()
        if msg.headers is not None and (status := msg.headers.get("Status")) and not msg.reply:
            self._status(status, msg.headers)
            return
        self.trouble = None
        self._asked -= 1
        self._arrived.append(msg)
        self._begin()

    def _status(self, status: str, headers: dict[str, str]) -> None:
        """What the server says of the pull request itself (ADR-37)."""
        if status == "100":  # it stands
            self.trouble = None
        elif status == "503" or (status == "409" and "Deleted" in headers.get("Description", "")):
            if self.trouble is None:
                self._log.error("the consumer is gone from nats-server; waiting until it is made anew")
            self.trouble = f"consumer {self.spec.name} of stream {self.spec.stream} is gone from nats-server"
            asyncio.get_running_loop().call_later(_GONE_S, self._pull_anew)
        elif status in ("404", "408", "409"):
            # the request ended; it says how much of it was not delivered
            left = headers.get("Nats-Pending-Messages")
            self._asked = max(0, self._asked - int(left)) if left else 0
            self._pull()

    async def _watch(self) -> None:
        """Renew a pull that fell silent, and keep long work from being delivered again."""
        interval = min(_HEARTBEAT_S, self.spec.ack_wait_s / 3)
        while True:
            await asyncio.sleep(interval)
            for delivery in list(self._held.values()):
                await delivery.in_progress()
            for msg in self._arrived:
                self.tell_server(msg.reply, b"+WPI")
            silent = asyncio.get_running_loop().time() - self._last_heard
            if silent > 2 * _HEARTBEAT_S + 1 and self._connection.connected:
                self._log.warning("pull fell silent; asking again", silent_s=round(silent, 1))
                self._pull_anew()

    # --- handling ---------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Begin a batch, if there is a slot: it takes what has arrived by the time it runs."""
        if self._free and not self._beginning and not self._stopping:
            self._beginning = True
            self._free -= 1
            task = self._beginner = asyncio.create_task(self._batch())
            self._tasks.add(task)
            task.add_done_callback(self._done)

    async def _batch(self) -> None:
        if self._linger_s:
            await asyncio.sleep(self._linger_s)
        size = self._max_batch if self._room is None else min(self._max_batch, await self._room())
        batch = [self._arrived.popleft() for _ in range(min(len(self._arrived), size))]
        self._beginning = False
        if self._arrived:
            self._begin()
        if self._asked <= self._pull_size // 2:
            self._pull()
        if batch:
            await self._handle(batch)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._free += 1
        if task.cancelled():
            return
        if error := task.exception():
            self._log.error("handling failed outside the handler", error=str(error))
        if self._arrived:
            self._begin()

    async def _handle(self, messages: list[Msg]) -> None:
        if self._skip is not None:
            messages = [m for m in messages if not self._skipped(m)]
        deliveries = [d for m in messages if (d := await self._open(m)) is not None]
        if not deliveries:
            return
        self._metrics.batch.observe(len(deliveries))
        again = 0
        for delivery in deliveries:
            self.keep(delivery)
            again += delivery.tries > 1
            follow(delivery, self._tracer, self.spec)
        if again:
            self._metrics.redelivered.inc(again)
        with self._metrics.duration.time():
            try:
                with doing(deliveries[0].span if len(deliveries) == 1 else None):
                    await self.handler(deliveries)
            except Exception as error:
                if len(deliveries) == 1:
                    await self._failed(deliveries[0], error)
                else:
                    self._log.warning("batch failed; trying its messages one by one", error=error_line(error))
                    for delivery in deliveries:
                        await self._handle_one(delivery)
        for delivery in deliveries:
            if not delivery.detached and not delivery.settled:
                await delivery.ack()
        self._metrics.handled.inc(len(deliveries))

    def _skipped(self, msg: Msg) -> bool:
        """Whether the handler has no use for it, by its headers alone; then it is acked unread."""
        if self._skip is None or not self._skip(msg.headers or {}):
            return False
        self.tell_server(msg.reply, b"")
        return True

    async def _handle_one(self, delivery: RawDelivery) -> None:
        if delivery.settled or delivery.detached:
            return
        try:
            with doing(delivery.span):
                await self.handler([delivery])
        except Exception as error:
            await self._failed(delivery, error)

    async def _open(self, msg: Msg) -> RawDelivery | None:
        try:
            return self.opened(msg, self)
        except Exception as error:
            reason, delivery = error_line(error), RawDelivery(self, msg)
            if isinstance(error, Unreadable) and delivery.tries <= len(UNREADABLE_S):
                self._log.warning(
                    "cannot read what a service signed; a replica of a newer version may",
                    tries=delivery.tries,
                    subject=msg.subject,
                    reason=reason,
                )
                await delivery.nak(UNREADABLE_S[delivery.tries - 1])
            else:  # whatever it is, these bytes will not be read better the next time
                self._log.warning("refused a message", subject=msg.subject, reason=reason)
                await self._bury_or_nak(delivery, reason)
            return None

    def opened(self, msg: Msg, settler: Settler) -> RawDelivery:
        """The message as the handler takes it.

        Raises, a :class:`CountersignError` as a rule, where that is a verified event, and this is none.
        """
        if not self._verify:
            return RawDelivery(settler, msg)
        return Delivery(settler, msg, self._open_event)

    async def _failed(self, delivery: RawDelivery, error: Exception) -> None:
        self._metrics.failed.inc()
        reason = error_line(error)
        if delivery.settled:
            return
        # what is wrong with the message stays wrong; what is wrong around it passes: an outage is no poison
        tries = self._max_tries * (_OUTAGE_FACTOR if isinstance(error, OUTAGES) else 1)
        if isinstance(error, Malformed) or delivery.tries >= tries:
            await self._bury_or_nak(delivery, reason)
            return
        self._log.warning("handler failed; trying again", tries=delivery.tries, subject=delivery.subject, error=reason)
        await delivery.nak()

    async def _bury_or_nak(self, delivery: RawDelivery, reason: str) -> None:
        try:
            await delivery.dead(reason)
        except CountersignError as error:
            self._log.error("dead letter not written; the message stays", error=error.detail)
            await delivery.nak(5)

    async def bury(self, delivery: RawDelivery, reason: str) -> str | None:
        """Write the dead letter, and return its event id; raises if the stream does not take it."""
        self._metrics.dead.inc()
        if delivery.subject == f"deadletter.{self.spec.stream}.{self.spec.name}":
            # it tells of one that failed here as well, and would be followed by another about itself, for ever
            self._log.error("cannot handle the dead letter of a dead letter; it stays in the stream", reason=reason)
            return None
        letter = dead_letter(self.spec, delivery, reason, with_body=self._bury_body)
        await self._bus.publish(letter)
        return letter.event_id()

    def tell_server(self, reply: str, how: bytes) -> None:
        """Settle a message, as sure as that ever is: of what the server does not hear it delivers the message again."""
        try:
            self.client.send_unhurried(reply, how)
        except nats.errors.Error as error:
            self._log.debug("not settled; it will be delivered again", error=str(error))

    def keep(self, delivery: RawDelivery) -> None:
        """Send in-progress for this delivery until it is settled."""
        self._held[delivery.stream_seq] = delivery

    def forget(self, delivery: RawDelivery) -> None:
        """It is settled."""
        self._held.pop(delivery.stream_seq, None)
