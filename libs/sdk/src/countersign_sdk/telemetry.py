"""An agent's logs and metrics on their way to the registry: gathered in memory, sent in batches beside the work.

Saying something never waits and never raises. What cannot be sent is tried again; where it becomes too much, the
oldest gives way, and the next batch says how much. May be used from any thread.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import orjson

from countersign_contracts.agent_config import DEFAULTS, ConfigValues
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import new_id
from countersign_contracts.model import now, rfc3339
from countersign_contracts.telemetry import LEVELS, MOST_RECORDS, MOST_VALUES, LogLevel

from .ending import end
from .records import name_of, record
from .resources import Usage, since, usage
from .transport import jittered

#: Sends a message of a verb (``logs``, ``metrics``). Raises `unavailable` for what may be tried again.
Send = Callable[[str, bytes], Awaitable[None]]

#: How long a record waits for company, in seconds, and how many are sent at once even so.
_GATHER_S, _GATHER = 1.0, 200
#: The most that waits, in records and bytes, and in reports; a batch's bytes, below what a message may have.
MOST_WAITING, MOST_WAITING_BYTES, _MOST_REPORTS, _BATCH_BYTES = 5000, 4 * 1024 * 1024, 60, 160 * 1024
#: Pauses between tries, and how long the end waits for what is not sent.
_PAUSES_S, _END_S = (0.5, 1.0, 2.0, 5.0, 15.0), 3.0
_MOST_COUNT = 2**53
_log = logging.getLogger("countersign.agent")


class Telemetry:
    """What one agent says. ``always``: it reports even while it has counted nothing."""

    def __init__(self, send: Send, interval_s: float, *, always: bool) -> None:
        self._send = send
        self._reporting = always
        self._interval_s = interval_s
        self._enabled = True
        self._least = LEVELS.index("info")
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._hurry = asyncio.Event()
        self._turned = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._records: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._unsent: bytes | None = None
        self._reports: deque[bytes] = deque()
        self._counts: dict[str, Any] = {}
        self._gauges: dict[str, float] = {}
        self._used: Usage = usage()
        self._since = time.monotonic()

    # --- what the agent says ------------------------------------------------------------------------

    def log(
        self, level: str, text: object, logger: str | None, fields: Mapping[str, Any], request_id: str | None
    ) -> None:
        """Keep a record for the next batch, if its level is one that is sent. An unknown level is `info`."""
        known: LogLevel = next((each for each in LEVELS if each == level.lower()), "info")
        if LEVELS.index(known) < self._least:
            return
        made = record(now(), known, text, logger, fields, request_id)
        with self._lock:
            self._records.append(made)
            self._bytes += len(made)
            while len(self._records) > MOST_WAITING or self._bytes > MOST_WAITING_BYTES:
                self._bytes -= len(self._records.popleft())
                self._dropped += 1
            many = len(self._records) >= _GATHER
        self._wake(self._woken)
        if many:
            self._wake(self._hurry)

    def count(self, succeeded: int, failed: int, processing_s: float) -> None:
        """Add events to the next report."""
        with self._lock:
            self._reporting = True
            for name, more in (
                ("events_succeeded", succeeded),
                ("events_failed", failed),
                ("processing_s", processing_s),
            ):
                if more > 0 and math.isfinite(more):
                    self._counts[name] = min(self._counts.get(name, 0) + more, _MOST_COUNT)

    @contextmanager
    def event(self) -> Iterator[None]:
        """One event: it failed if the block raises, and the block's time is its processing time."""
        began = time.perf_counter()
        try:
            yield
        except Exception:  # what is cancelled neither succeeded nor failed
            self.count(0, 1, time.perf_counter() - began)
            raise
        self.count(1, 0, time.perf_counter() - began)

    def gauge(self, name: str, value: float) -> None:
        """Say this value with every report from now on; at most 32 names, and finite numbers."""
        name = name_of(name)
        with self._lock:
            self._reporting = True
            if not math.isfinite(value) or (name not in self._gauges and len(self._gauges) >= MOST_VALUES):
                _log.warning("the metric %s is not sent: at most %d, each a finite number", name, MOST_VALUES)
                return
            self._gauges[name] = float(value)

    def use(self, values: ConfigValues) -> None:
        """Do as the agent's configuration says from now on: ``log_level``, ``metrics_enabled``, ``…_interval_s``."""
        level = (values.log_level or DEFAULTS.log_level or "INFO").lower()
        self._least = next((n for n, each in enumerate(LEVELS) if each == level), self._least)
        self._enabled = values.metrics_enabled is not False
        self._interval_s = values.metrics_interval_s or self._interval_s
        self._wake(self._turned)

    # --- sending ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Send from now on, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [self._loop.create_task(self._logs()), self._loop.create_task(self._metrics())]

    async def close(self) -> None:
        """Send what is left, for some seconds at most; what is left then is given up, and logged."""
        await end(*self._tasks)
        self._tasks = []
        with suppress(TimeoutError, CountersignError):
            async with asyncio.timeout(_END_S):
                self._report()
                await self._send_reports()
                while self._unsent is not None or self._records:
                    await self._send_batch()
        self._loop = None
        if left := len(self._records) + (self._unsent is not None) + len(self._reports):
            _log.warning("%d records, batches and reports of the agent were not sent", left)

    def _wake(self, event: asyncio.Event) -> None:
        loop = self._loop
        if loop is None:
            return
        with suppress(RuntimeError):  # closed meanwhile
            loop.call_soon_threadsafe(event.set)

    async def _logs(self) -> None:
        while True:
            if not self._records:
                await self._woken.wait()
            self._woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_GATHER_S):
                    await self._hurry.wait()
            self._hurry.clear()
            while self._records or self._unsent is not None:
                await self._trying(self._send_batch)

    async def _metrics(self) -> None:
        while True:
            self._turned.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._since + self._interval_s - time.monotonic())):
                    await self._turned.wait()
            if time.monotonic() >= self._since + self._interval_s:
                self._report()
                await self._trying(self._send_reports)

    async def _trying(self, send: Callable[[], Awaitable[None]]) -> None:
        """Until it is sent."""
        tried = 0
        while True:
            try:
                return await send()
            except CountersignError as error:
                if not tried:
                    _log.info("an agent's telemetry is not sent yet: %s", error.detail)
                await asyncio.sleep(jittered(_PAUSES_S[min(tried, len(_PAUSES_S) - 1)]))
                tried += 1

    async def _send_batch(self) -> None:
        """Send a batch, the one of before first: with the same id, so that it is kept once."""
        if self._unsent is None:
            self._unsent = self._batch()
        await self._one("logs", self._unsent)
        self._unsent = None

    async def _send_reports(self) -> None:
        while self._reports:
            await self._one("metrics", self._reports[0])
            self._reports.popleft()

    async def _one(self, verb: str, body: bytes) -> None:
        try:
            await self._send(verb, body)
        except CountersignError as error:
            if error.status in (429, 500, 503):
                raise
            _log.warning("an agent's %s are refused: %s", verb, error.detail)  # again would not help

    def _batch(self) -> bytes:
        """The oldest records that fit into one."""
        taken: list[bytes] = []
        size = 0
        with self._lock:
            if self._dropped:
                text = f"{self._dropped} records before this one were dropped: more than could be sent"
                taken.append(record(now(), "warning", text, "countersign.agent", {"dropped": self._dropped}, None))
                self._dropped = 0
            while self._records and len(taken) < MOST_RECORDS and size + len(self._records[0]) <= _BATCH_BYTES:
                taken.append(self._records.popleft())
                size += len(taken[-1])
                self._bytes -= len(taken[-1])
        return b'{"batch":"%s","records":[%s]}' % (new_id().encode(), b",".join(taken))

    def _report(self) -> None:
        """Put a report of the time since the last one with those to be sent."""
        used, at = usage(), time.monotonic()
        with self._lock:
            counts, self._counts = self._counts, {}
            gauges = dict(self._gauges)
            interval_s, self._since = at - self._since, at
            before, self._used = self._used, used
        if not (self._enabled and self._reporting) or interval_s <= 0:
            return
        said = {"batch": new_id(), "at": rfc3339(now()), "interval_s": min(interval_s, 86_400.0), "values": gauges}
        self._reports.append(orjson.dumps(said | counts | since(before, used)))
        while len(self._reports) > _MOST_REPORTS:
            self._reports.popleft()
