"""How much waits for each consumer, and for how long: asked of nats-server every few seconds, never per message.

The age needs no message to be read: what was handed to this process says when it was stored; and as long as the
consumer's acknowledgement floor stands still with something outstanding, the oldest message is the same one, so that it
is at least as old as that has lasted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nats.errors
import orjson

from .consumer import EventConsumer
from .metrics import Metrics

EVERY_S = 5.0


@dataclass(slots=True)
class Standing:
    """A consumer's acknowledgement floor, and since when it was seen there with work outstanding (Unix time)."""

    floor: int
    since: float


def standing(before: Standing | None, *, floor: int, outstanding: int, at: float) -> Standing | None:
    """What is known of the oldest message after a look at the consumer; None: nothing waits."""
    if not outstanding:
        return None
    return before if before is not None and before.floor == floor else Standing(floor, at)


class QueueWatch:
    """One loop for all consumers of a service. Those that do not run here (another replica's turn) show nothing."""

    def __init__(self, consumers: Sequence[EventConsumer], metrics: Metrics, log: Any) -> None:
        self._consumers = consumers
        self._log = log
        self._pending = metrics.gauge(
            "countersign_messages_pending",
            "Messages that the consumer has not delivered yet; every replica tells the same",
            ["consumer"],
        )
        self._unacknowledged = metrics.gauge(
            "countersign_messages_unacknowledged",
            "Messages delivered and not settled, of all replicas together",
            ["consumer"],
        )
        self._oldest = metrics.gauge(
            "countersign_messages_oldest_seconds",
            "Age of the oldest message that is not settled, at least; 0: none. The highest of the replicas counts",
            ["consumer"],
        )
        self._standing: dict[str, Standing | None] = {}
        self._shown: set[str] = set()

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Ask about every consumer that runs here."""
        running = {each.spec.name: each for each in self._consumers if each.running}
        for name in self._shown - running.keys():
            for gauge in (self._pending, self._unacknowledged, self._oldest):
                gauge.remove(name)
            self._standing.pop(name, None)
        self._shown &= running.keys()
        for name, each in running.items():
            await self._look_at(name, each)

    async def _look_at(self, name: str, each: EventConsumer) -> None:
        try:
            subject = f"$JS.API.CONSUMER.INFO.{each.spec.stream}.{name}"
            info = orjson.loads((await each.client.request(subject, b"", timeout=2)).data)
        except (TimeoutError, nats.errors.Error, OSError) as error:
            self._log.debug("consumer not looked at", consumer=name, error=str(error))
            return
        if "error" in info:
            return  # the consumer itself notices, and says so
        pending, unacknowledged = info["num_pending"], info["num_ack_pending"]
        self._standing[name] = standing(
            self._standing.get(name),
            floor=info["ack_floor"]["stream_seq"],
            outstanding=pending + unacknowledged,
            at=time.time(),
        )
        self._pending.labels(name).set(pending)
        self._unacknowledged.labels(name).set(unacknowledged)
        if name not in self._shown:
            self._shown.add(name)
            self._oldest.labels(name).set_function(lambda: self._age(name))

    def _age(self, name: str) -> float:
        known = self._standing.get(name)
        since = [known.since] if known is not None else []
        since += [at for each in self._consumers if each.spec.name == name and (at := each.oldest_stored()) is not None]
        return max(0.0, time.time() - min(since)) if since else 0.0
