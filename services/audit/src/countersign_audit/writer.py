"""Who writes the ledger: of all replicas the one whose database session holds the lock. The others stand by.

The lock decides who should write; that nobody else can, even when a lock was lost unnoticed, the insert itself makes
sure (it names the head it continues). On any doubt the connection is given up, and everything is read anew.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import nats.errors

from countersign_chassis import Connection, Database
from countersign_contracts.control import Checkpointed
from countersign_contracts.errors import CountersignError, Refused
from countersign_ledger.checkpoint import Checkpoint
from countersign_ledger.trust import TrustBundle

from .appender import Appender, ConnectionLost
from .checkpoint_file import CheckpointFile
from .checkpoints import Checkpoints
from .intake import Intake
from .measures import Measures
from .soundness import NotSound, check
from .store import Head, HeadMoved, LedgerStore

STANDBY = "standby: another replica writes the ledger"

#: The pause after the first failure, and the longest one, in seconds.
_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
_EXPECTED = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection of which the server has said, unasked, that it is ending it
    nats.errors.Error,
    CountersignError,
    ConnectionLost,
    HeadMoved,
    OSError,
    TimeoutError,
)


class Writer:
    """Stands by, takes over, writes, and steps back."""

    def __init__(
        self,
        db: Database,
        store: LedgerStore,
        trust: TrustBundle,
        file: CheckpointFile,
        appender: Appender,
        checkpoints: Checkpoints,
        intake: Intake,
        measures: Measures,
        log: Any,
        *,
        standby_poll_s: float,
    ) -> None:
        self._db = db
        self._store = store
        self._trust = trust
        self._file = file
        self._appender = appender
        self._checkpoints = checkpoints
        self._intake = intake
        self._measures = measures
        self._log = log
        self._standby_poll_s = standby_poll_s
        self._task: asyncio.Task[None] | None = None
        self._settled: asyncio.Future[None] | None = None
        self._state = "the ledger is being opened"
        self.leading = False

    async def start(self) -> None:
        """Returns when this replica writes or stands by. Raises :class:`NotSound` for a ledger tampered with."""
        self._file.prepare()
        self._settled = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run())
        await self._settled

    async def stop(self) -> None:
        """Cover what was written, and let another replica take over at once."""
        if self.leading:
            try:
                await self._checkpoints.cover()
            except _EXPECTED as error:
                self._log.warning("no checkpoint at stop", reason=str(error) or type(error).__name__)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._withdraw("stopped")

    def why_not(self) -> str | None:
        """Why this replica can do neither of its duties, to write or to stand by; None while it can."""
        if self._appender.trouble is not None:
            return f"the ledger cannot be written: {self._appender.trouble}"
        return None if self.leading or self._state == STANDBY else self._state

    def role(self) -> str:
        """What it does for the ledger now, for people."""
        return self._state

    async def _run(self) -> None:
        pause = _PAUSE_S
        while True:
            before = self._appender.head.seq
            try:
                async with self._db.session() as connection:
                    await self._stand_by(connection)
                    head, last_event = await self._take_over()
                    await self._appender.run(connection, head, last_event)
            except (NotSound, Refused) as error:
                if self._settle(error):
                    return
                await self._withdraw(error.detail)
                self._log.error("the ledger is not written", reason=error.detail)
            except _EXPECTED as error:
                self._failed(str(error) or type(error).__name__)
            except Exception as error:
                self._log.exception("the ledger's writer failed", error=str(error))
                self._failed(f"{type(error).__name__}: {error}")
            pause = _PAUSE_S if self._appender.head.seq > before else min(pause * 2, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause)

    async def _stand_by(self, connection: Connection) -> None:
        """Returns once this session is the ledger's writer."""
        while not await self._store.lead(connection):
            if self._state != STANDBY:
                await self._examine()
                await self._withdraw(STANDBY)
                self._log.info("standing by: another replica writes the ledger")
                self._settle(None)
            await asyncio.sleep(self._standby_poll_s)

    async def _take_over(self) -> tuple[Head, int]:
        """Read where the ledger ends, make sure that it is sound, and begin to take messages."""
        head, latest = await self._examine()
        last_event = await self._store.uncovered(latest.seq if latest else 0, Checkpointed.spec.type)
        self._checkpoints.lead(latest)
        self._appender.open()
        await self._intake.start()
        self._lead(True)
        self._state = "writing"
        self._log.info("writing the ledger", head=head.seq)
        self._settle(None)
        return head, last_event

    async def _examine(self) -> tuple[Head, Checkpoint | None]:
        outside = await asyncio.to_thread(self._file.last)
        name = f"the checkpoint file {self._file.path}"
        return await check(self._store, self._trust, outside, name, self._appender.head)

    async def _withdraw(self, state: str) -> None:
        """Do not write: give back everything, and take nothing more."""
        self._lead(False)
        self._state = state
        self._checkpoints.step_down()
        self._appender.step_down()
        await self._intake.stop()

    def _failed(self, reason: str) -> None:
        """Not written for now; what waits goes on waiting. Whether this replica is still the one is seen next."""
        self._lead(False)
        self._measures.append_failures.inc()
        if self._appender.trouble != reason:
            self._log.error("the ledger cannot be written; trying again", reason=reason)
        self._appender.trouble = reason

    def _lead(self, leading: bool) -> None:
        self.leading = leading
        self._measures.leading.set(int(leading))

    def _settle(self, error: CountersignError | None) -> bool:
        """The first outcome is what ``start`` returns or raises; True if this was it and it is an error."""
        if self._settled is None or self._settled.done():
            return False
        if error is None:
            self._settled.set_result(None)
            return False
        self._settled.set_exception(error)
        return True
