"""The registry's buckets: what others see of its rows.

A record is always read again right before it is shown, by one registry at a time: so the bucket never goes back to an
older revision, in whatever order the changes finish. Shown after each change, all at start, and all again when the
bucket lost something (JetStream may be wiped).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import nats.errors
from nats.js.api import StreamInfo

from countersign_chassis import Coalescer, Connection, Failpoints, Projector
from countersign_chassis.connection import NatsConnection
from countersign_contracts.errors import Unavailable
from countersign_contracts.model import Frozen
from countersign_contracts.projection import Bucket

from .store import Lock, Store

_PAGE = 256
_RETRY_S = 1.0


class Rows(Protocol):
    """Where the records of one bucket come from, by name."""

    async def some(self, connection: Connection, names: Sequence[str]) -> Mapping[str, Frozen]:
        """Those of ``names`` that there are."""

    async def after(self, connection: Connection, name: str, limit: int) -> Mapping[str, Frozen]:
        """The next ones in the order of their names."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The bucket as it was when everything in it was known to be right."""

    created: str
    last_seq: int
    messages: int

    def lost(self, now: Shown) -> bool:
        """Whether something is missing since: another bucket of that name, an earlier state, or fewer records."""
        return now.created != self.created or now.last_seq < self.last_seq or now.messages < self.messages


class Projection:
    """One bucket."""

    def __init__(
        self,
        bucket: Bucket,
        lock: Lock,
        rows: Rows,
        key: Callable[[str], str],
        store: Store,
        projector: Projector,
        connection: NatsConnection,
        check_s: float,
        failpoints: Failpoints,
        log: Any,
    ) -> None:
        self._bucket = bucket
        self._lock = lock
        self._rows = rows
        self._key = key
        self._store = store
        self._projector = projector
        self._connection = connection
        self._check_s = check_s
        self._failpoints = failpoints
        self._log = log.bind(bucket=bucket.name)
        self._shows: Coalescer[str, None] = Coalescer(self._show, max_batch=_PAGE)
        self._behind: set[str] = set()
        self._shown: Shown | None = None

    def unready(self) -> str | None:
        """Why others do not see what they should, if so."""
        if self._shown is None:
            return "not shown yet"
        return f"{len(self._behind)} records not shown yet" if self._behind else None

    async def show(self, names: Sequence[str]) -> None:
        """Show these records as they are now; raises :class:`Unavailable`, and is tried again by :meth:`run`."""
        await asyncio.gather(*(self._shows.submit(name) for name in names))

    async def start(self) -> None:
        """Show everything; where that cannot be, :meth:`run` goes on trying."""
        try:
            await self.rebuild()
        except Unavailable as error:
            self._log.warning("cannot show the records yet", reason=error.detail)

    async def restarted(self) -> None:
        """The connection to nats-server came back, maybe to one that forgot what it took last."""
        self._shown = None

    async def run(self) -> None:
        """Show what could not be shown, and everything when the bucket lost something, for ever."""
        loop = asyncio.get_running_loop()
        check_at = loop.time() + self._check_s
        while True:
            if self._shown is None:
                await self.rebuild()
            elif self._behind:
                await self.show(list(self._behind)[:_PAGE])
            elif loop.time() >= check_at:
                if self._shown.lost(await self._look()):
                    self._log.warning("the bucket lost records; showing every one again")
                    await self.rebuild()
                check_at = loop.time() + self._check_s
            await asyncio.sleep(min(_RETRY_S, self._check_s))

    async def rebuild(self) -> None:
        """Show every record; raises :class:`Unavailable`."""
        self._shown = None
        name = ""
        while True:
            async with self._store.alone(self._lock) as connection:
                records = await self._rows.after(connection, name, _PAGE)
                await self._projector.rebuild({self._key(name): record for name, record in records.items()})
            if len(records) < _PAGE:
                break
            name = list(records)[-1]
        self._shown = await self._look()

    async def _show(self, names: Sequence[str]) -> list[None]:
        self._behind.difference_update(names)
        try:
            if not self._connection.connected:
                raise Unavailable("nats-server does not answer")
            async with self._store.alone(self._lock) as connection:
                records = await self._rows.some(connection, sorted(set(names)))
                await self._failpoints.hit("registry.after_read_before_show")
                await self._projector.rebuild({self._key(name): record for name, record in records.items()})
        except BaseException:
            self._behind.update(names)
            raise
        return [None] * len(names)

    async def _look(self) -> Shown:
        js = self._connection.client.jetstream(timeout=3)
        try:
            info: StreamInfo = await js.stream_info(f"KV_{self._bucket.name}")
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise Unavailable(f"bucket {self._bucket.name} does not answer: {error}") from None
        return Shown(str(info.created), info.state.last_seq, info.state.messages)
