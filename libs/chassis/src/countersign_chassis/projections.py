"""Projections over NATS key-value: an owner projects its tables, readers mirror them in memory.

A mirror is for deciding early and cheaply. It may lag; what must hold exactly is checked by the owner's rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import nats.errors
import nats.js.errors
from nats.js.kv import KeyValue

from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.model import Frozen
from countersign_contracts.projection import Bucket, open_projection, seal_projection
from countersign_ledger import SigningKey, TrustBundle

from .connection import NatsConnection

P = TypeVar("P", bound=Frozen)


class Mirror(Generic[P]):
    """A reader's copy of a bucket. Records carry ``revision``; an older one never replaces a newer one."""

    def __init__(self, bucket: Bucket, model: type[P], connection: NatsConnection, trust: TrustBundle, log: Any):
        self._bucket = bucket
        self._model = model
        self._connection = connection
        self._trust = trust
        self._log = log.bind(bucket=bucket.name)
        self._records: dict[str, P] = {}
        self._changed = asyncio.Condition()
        self._subscribers: list[Callable[[str, P], None]] = []
        self._kv: KeyValue | None = None
        self._task: asyncio.Task[None] | None = None
        self._loaded = asyncio.Event()
        self._restart = asyncio.Event()

    @property
    def loaded(self) -> bool:
        """Whether the bucket was read once."""
        return self._loaded.is_set()

    def get(self, key: str) -> P | None:
        """The record, as far as is known here."""
        return self._records.get(key)

    def values(self) -> list[P]:
        """Every record."""
        return list(self._records.values())

    def subscribe(self, callback: Callable[[str, P], None]) -> None:
        """Call back with each record as it arrives, those already here first."""
        for key, record in self._records.items():
            callback(key, record)
        self._subscribers.append(callback)

    async def start(self) -> None:
        """Read the bucket and keep following it; returns once it was read."""
        self._connection.on_reconnect(self._reconnected)
        self._task = asyncio.create_task(self._follow())
        await self._loaded.wait()

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()

    async def reach(self, key: str, revision: int, timeout_s: float = 2.0) -> None:
        """Wait until this copy has ``key`` at ``revision`` or later; raises :class:`Unavailable` in the end."""

        def there() -> bool:
            record = self._records.get(key)
            return record is not None and getattr(record, "revision", 0) >= revision

        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(there)
        except TimeoutError:
            await self.fetch(key)
            if not there():
                raise Unavailable(f"{self._bucket.name}/{key} has not reached revision {revision} yet") from None

    async def fetch(self, key: str) -> P | None:
        """Read through to the server: the newest record it has."""
        if self._kv is None:
            return None
        try:
            entry = await self._kv.get(key)
        except nats.js.errors.KeyNotFoundError:
            return self._records.get(key)
        except (TimeoutError, nats.errors.Error, OSError):
            raise Unavailable(f"bucket {self._bucket.name} does not answer") from None
        if entry.value:
            await self._take(key, entry.value)
        return self._records.get(key)

    async def _reconnected(self) -> None:
        self._restart.set()

    async def _follow(self) -> None:
        pause = 0.1
        while True:
            try:
                await self._watch_once()
                pause = 0.1
            except (TimeoutError, nats.errors.Error, OSError) as error:
                self._log.warning("cannot follow the bucket; trying again", error=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)

    async def _watch_once(self) -> None:
        self._restart.clear()
        js = self._connection.client.jetstream(timeout=3)
        self._kv = await js.key_value(f"{self._bucket.name}")
        watcher: Any = await self._kv.watchall()
        try:
            while not self._restart.is_set():
                try:
                    entry = await watcher.updates(timeout=1)
                except TimeoutError:
                    continue
                if entry is None:
                    self._loaded.set()
                elif entry.value:
                    await self._take(entry.key, entry.value)
        finally:
            try:
                await watcher.stop()
            except (nats.errors.Error, OSError) as error:
                self._log.debug("watcher", error=str(error))

    async def _take(self, key: str, stored: bytes) -> None:
        try:
            record = open_projection(self._bucket, key, stored, self._trust, self._model)
        except CountersignError as error:
            self._log.error("refused a record", key=key, reason=error.detail)
            return
        known = self._records.get(key)
        if known is not None and getattr(record, "revision", 0) < getattr(known, "revision", 0):
            return
        self._records[key] = record
        for callback in self._subscribers:
            callback(key, record)
        async with self._changed:
            self._changed.notify_all()


class Projector:
    """The owner's side of a bucket."""

    def __init__(self, bucket: Bucket, connection: NatsConnection, key: SigningKey) -> None:
        self._bucket = bucket
        self._connection = connection
        self._key = key

    async def put(self, key: str, record: Frozen) -> None:
        """Show ``record``; raises :class:`Unavailable` if the bucket does not take it."""
        await self.rebuild({key: record})

    async def rebuild(self, records: Mapping[str, Frozen]) -> None:
        """Show every record again, for instance after the bucket was lost."""
        js = self._connection.client.jetstream(timeout=3)
        try:
            await asyncio.gather(
                *(
                    js.publish(
                        f"$KV.{self._bucket.name}.{key}",
                        seal_projection(self._bucket, key, record, self._key),
                    )
                    for key, record in records.items()
                )
            )
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise Unavailable(f"bucket {self._bucket.name} does not take its records: {error}") from None
