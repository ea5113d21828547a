"""The one place where the ledger grows: what arrives from all streams goes into it batch by batch.

While one batch is being committed the next one gathers. An idle appender writes at once what somebody waits for (the
executor, for grants), and lets anything else wait a moment for company. What cannot be written stays
here, in order and unacknowledged, until it can: nothing is confirmed and nothing is lost meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import asyncpg

from countersign_chassis import Connection, Failpoints
from countersign_contracts.actions import ActionGranted
from countersign_contracts.control import Checkpointed
from countersign_contracts.model import now
from countersign_ledger.entry import GENESIS, Chain
from countersign_ledger.signing import SigningKey

from .arrival import Arrival, Believed, Doubt, Doubted
from .measures import Measures
from .receipts import Receipts
from .sealing import Sealed, ids_of, seal_all
from .store import Head, HeadMoved, LedgerStore

#: Bodies of one batch together, at most: more would hold up what waits behind it.
MAX_BATCH_BYTES = 8 * 1024 * 1024

#: Nothing executes before these are on record.
_AWAITED = frozenset({ActionGranted.spec.type})


class StandingBy(Exception):
    """Another replica writes the ledger: what was handed in here must be given back to the stream."""


class ConnectionLost(Exception):
    """The connection that holds the writer's lock ended."""


@dataclass(slots=True)
class _Unit:
    """What one handler handed in. ``tried``: a commit was begun and its outcome is unknown."""

    arrivals: list[Arrival]
    bytes: int
    done: asyncio.Future[None]
    tried: bool = False


class Appender:
    """Chains and commits. ``head`` and ``last_event`` (the last entry that is no checkpoint's) are as committed."""

    def __init__(
        self,
        store: LedgerStore,
        key: SigningKey,
        receipts: Receipts,
        measures: Measures,
        failpoints: Failpoints,
        *,
        max_entries: int,
        linger_s: float,
        write_timeout_s: float,
    ) -> None:
        self._store = store
        self._key = key
        self._receipts = receipts
        self._measures = measures
        self._failpoints = failpoints
        self._max_entries = max_entries
        self._linger_s = linger_s
        self._write_timeout_s = write_timeout_s
        self._waiting: deque[_Unit] = deque()
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._open = False
        self.head = Head(0, GENESIS)
        self.last_event = 0
        self.trouble: str | None = None
        self.on_written: Callable[[], None] = lambda: None

    def submit(self, arrivals: list[Arrival]) -> asyncio.Future[None]:
        """Hand in; what is returned is done once all of these are on record.

        Raises :class:`StandingBy`, at once or through the future, if this replica does not write.
        """
        if not self._open:
            raise StandingBy
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # nobody may wait for it any more when it fails: its messages come again to whoever writes then
        done.add_done_callback(_look_at)
        if self._measures.waiting_since is None:
            self._measures.waiting_since = now()
        self._waiting.append(_Unit(arrivals, sum(len(a.message.body) for a in arrivals), done))
        self._wake.set()
        if any(isinstance(a, Believed) and a.envelope.type in _AWAITED for a in arrivals):
            self._hurry.set()
        return done

    def open(self) -> None:
        """This replica writes: take what is handed in."""
        self._open = True

    def step_down(self) -> None:
        """Another replica writes: give everything back."""
        self._open = False
        self.trouble = None
        self._measures.waiting_since = None
        while self._waiting:
            unit = self._waiting.popleft()
            if not unit.done.done():
                unit.done.set_exception(StandingBy())

    async def run(self, connection: Connection, head: Head, last_event: int) -> None:
        """Write what waits and what comes, until something prevents it: that is raised, and all that waits stays."""
        self.head, self.last_event = head, last_event
        self._measures.head.set(head.seq)
        self._receipts.recorded((), head.seq)
        if not self._waiting:
            self.trouble = None

        lost = False

        def ended(_: object) -> None:
            nonlocal lost
            lost = True
            self._wake.set()
            self._hurry.set()

        connection.add_termination_listener(ended)
        try:
            while True:
                while not self._waiting:
                    self._wake.clear()
                    if lost:
                        raise ConnectionLost("the connection to PostgreSQL ended")
                    await self._wake.wait()
                if not self._hurry.is_set():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._linger_s):
                            await self._hurry.wait()
                self._hurry.clear()
                await self._write(connection, self._take())
        finally:
            if not lost:
                connection.remove_termination_listener(ended)

    def _take(self) -> list[_Unit]:
        """The next batch: whole units, in order, as many as fit; one at least."""
        units = [self._waiting.popleft()]
        entries, size = len(units[0].arrivals), units[0].bytes
        while self._waiting:
            following = self._waiting[0]
            entries, size = entries + len(following.arrivals), size + following.bytes
            if entries > self._max_entries or size > MAX_BATCH_BYTES:
                break
            units.append(self._waiting.popleft())
        return units

    async def _write(self, connection: Connection, units: list[_Unit]) -> None:
        arrivals = [a for unit in units for a in unit.arrivals]
        maybe_known = any(unit.tried for unit in units) or any(a.message.tries > 1 for a in arrivals)
        for unit in units:
            unit.tried = True
        try:
            await self._record(connection, arrivals, look_first=maybe_known)
        except BaseException:
            self._waiting.extendleft(reversed(units))
            raise
        self.trouble = None
        self._measures.waiting_since = now() if self._waiting else None
        for unit in units:
            if not unit.done.done():
                unit.done.set_result(None)
        self.on_written()

    async def _record(self, connection: Connection, arrivals: Sequence[Arrival], *, look_first: bool) -> None:
        """Seal and commit. Looks for repeats only where there may be some: at most batches there are none."""
        known = await self._store.known(connection, ids_of(arrivals)) if look_first else {}
        at = now()
        chain = Chain(self.head.seq, self.head.hash)
        batch = seal_all(chain, arrivals, known, key=self._key, at=at)
        if not batch:
            return
        await self._failpoints.hit("audit.before_commit")
        try:
            with self._measures.append_duration.time():
                await self._store.append(connection, self.head, batch, self._write_timeout_s)
        except asyncpg.UniqueViolationError as error:
            if look_first or error.constraint_name != "entries_event_id":
                raise HeadMoved(f"entry {self.head.seq + 1} exists already: {error.detail}") from None
            await self._record(connection, arrivals, look_first=True)
        except (asyncpg.DataError, asyncpg.ProgramLimitExceededError) as error:
            await self._record_in_parts(connection, arrivals, error)
        else:
            self._committed(batch, Head(chain.head_seq, chain.head_hash))
            self._measures.appended(batch, at)

    async def _record_in_parts(
        self, connection: Connection, arrivals: Sequence[Arrival], refusal: asyncpg.PostgresError
    ) -> None:
        """One of these PostgreSQL cannot hold: find it, and record that, instead of stopping for ever."""
        if len(arrivals) > 1:
            half = len(arrivals) // 2
            await self._record(connection, arrivals[:half], look_first=True)
            await self._record(connection, arrivals[half:], look_first=True)
            return
        (arrival,) = arrivals
        if isinstance(arrival, Doubted) and arrival.doubt.code == "unstorable":
            raise refusal
        doubt = Doubt("unstorable", f"PostgreSQL refuses it: {refusal}")
        await self._record(connection, [Doubted(arrival.message, None, doubt)], look_first=True)

    def _committed(self, batch: Sequence[Sealed], head: Head) -> None:
        self.head = head
        for one in reversed(batch):
            if one.entry.type != Checkpointed.spec.type:
                self.last_event = one.entry.seq
                break
        verified = [s.entry for s in batch if s.verdict == "verified"]
        self._receipts.recorded(
            [entry.event_id for entry in verified],
            head.seq,
            [entry.event_id for entry in verified if entry.type in _AWAITED],
        )


def _look_at(done: asyncio.Future[None]) -> None:
    if not done.cancelled():
        done.exception()
