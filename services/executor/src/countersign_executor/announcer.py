"""Tells the bus what commands decided.

Pending announcements as events, and the projections of tools and stops.

A command commits first; the bus may be away and hears of it later. Everything here may be repeated without
harm. Events of granted actions do not pass here: their unacknowledged grant is what brings them back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from countersign_chassis import Projector
from countersign_chassis.bus import Bus
from countersign_contracts.envelope import seal
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.event import EVENTS
from countersign_contracts.model import Frozen, now
from countersign_ledger.signing import SigningKey

from .control_store import ControlStore
from .measures import Measures

Records = Callable[[], Awaitable[Mapping[str, Frozen]]]


class Announcer:
    """``projections``: each bucket's projector with what reads all its records."""

    def __init__(
        self,
        store: ControlStore,
        bus: Bus,
        key: SigningKey,
        projections: Mapping[str, tuple[Projector, Records]],
        measures: Measures,
        log: Any,
        *,
        rebuild_interval_s: float,
    ) -> None:
        self._store = store
        self._bus = bus
        self._key = key
        self._projections = projections
        self._measures = measures
        self._log = log
        self._interval_s = rebuild_interval_s
        self._stale = set(projections)
        self._one_at_a_time = asyncio.Lock()
        self._wake = asyncio.Event()

    def everything_is_stale(self) -> None:
        """Show every record again soon: the buckets may be lost."""
        self._stale |= set(self._projections)
        self._wake.set()

    async def tell(self, bucket: str | None = None, *, within_s: float = 1.0) -> None:
        """Publish what is pending and show ``bucket`` again; what takes longer goes on in the background."""
        if bucket is not None:
            self._stale.add(bucket)
        try:
            async with asyncio.timeout(within_s):
                await self.drain()
        except (TimeoutError, CountersignError) as error:
            self._log.warning("the bus will hear of it later", error=str(error))
            self._wake.set()

    async def drain(self) -> None:
        """Publish everything pending, then show what is stale.

        Raises :class:`CountersignError` if the bus is away.
        """
        async with self._one_at_a_time:
            last = 0
            while pending := await self._store.pending(last):
                for last, kind, body in pending:
                    try:
                        await self._publish(kind, body)
                    except Unavailable:
                        raise
                    except CountersignError as error:
                        # it stays and is tried at the next occasion; the others need not wait for it
                        self._measures.announcements_refused.inc()
                        self._log.error("the bus refuses an announcement", type=kind, error=error.detail)
                    else:
                        await self._store.announced([last])
            for bucket in sorted(self._stale):
                projector, records = self._projections[bucket]
                self._stale.discard(bucket)
                try:
                    await projector.rebuild(await records())
                except BaseException:
                    self._stale.add(bucket)
                    raise

    async def run(self) -> None:
        """Keep doing so: when something failed, and every so often in case a bucket was lost."""
        pause = 0.2
        while True:
            self._wake.clear()
            try:
                await self.drain()
                pause = 0.2
            except Unavailable as error:
                self._log.warning("cannot announce yet", error=error.detail)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
                continue
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._wake.wait()
            except TimeoutError:
                self._stale |= set(self._projections)

    async def _publish(self, kind: str, body: bytes) -> None:
        event = EVENTS[kind].from_bytes(body)
        envelope = seal(body, id=event.event_id(), type=kind, subject=event.about(), time=now(), key=self._key)
        await self._bus.publish_sealed([(event.nats_subject(), event.spec.stream, envelope)])
