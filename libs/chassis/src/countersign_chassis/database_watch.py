"""Whether PostgreSQL is there: at the start, and while the service runs, for `/health/ready`."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from countersign_contracts.errors import CountersignError, Unavailable

from .database import Database

#: How often it is looked at.
CHECK_S = 1.0


class DatabaseWatch:
    """Looks once a second. ``trouble`` is why it cannot be worked with; None while it can."""

    def __init__(self, db: Database, service: str, log: Any) -> None:
        self._db = db
        self._service = service
        self._log = log
        self.trouble: str | None = None

    async def open(self) -> None:
        """Connect; raises :class:`Unavailable` while waiting may help, :class:`CountersignError` where it will not."""
        try:
            await self._db.open()
        except (
            OSError,
            TimeoutError,
            asyncpg.CannotConnectNowError,
            asyncpg.ConnectionDoesNotExistError,
        ) as error:
            raise Unavailable(str(error) or type(error).__name__) from None
        except asyncpg.PostgresError as error:
            raise CountersignError(f"PostgreSQL refuses {self._service}: {error}") from None

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(CHECK_S)
            trouble = await self._db.trouble()
            if trouble is not None and self.trouble is None:
                self._log.error("PostgreSQL is away; waiting", reason=trouble)
            elif trouble is None and self.trouble is not None:
                self._log.info("PostgreSQL is back")
            self.trouble = trouble
