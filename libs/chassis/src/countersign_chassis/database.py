"""A connection pool to the service's own schema, and forward-only migrations under an advisory lock."""

from __future__ import annotations

import asyncio
import hashlib
import re
import zlib
from collections.abc import AsyncIterator, Callable, Container, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from importlib import resources
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from countersign_contracts.errors import CountersignError, Unavailable

from .hot import SETTINGS, HotConnections
from .measured import DatabaseMetrics, MeasuredPool
from .metrics import Metrics

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

_MIGRATION = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")


#: How long a connection or its answer is waited for, before PostgreSQL counts as away.
ASKED_WITHIN_S = 3.0
#: How long a statement may take, if it does not say so itself.
ANSWERED_WITHIN_S = 30.0
#: The same for migrations: large tables take hours. (asyncpg takes 0 for no time at all.)
_MIGRATED_WITHIN_S = 7 * 86_400.0
#: How long a migration waits for a table, in milliseconds: whoever wants that table meanwhile waits behind it.
LOCKED_WITHIN_MS = 1000


class MigrationError(CountersignError):
    """The schema in the database does not fit this version of the service."""


class Database:
    """The service's connections. ``open`` waits for the server; everything else fails fast.

    ``pool_max``: how many at most; ``hot`` of them are for :meth:`hot`, as long as one is left for the rest.
    """

    def __init__(self, dsn: str, *, pool_max: int, name: str, hot: int = 0, metrics: Metrics | None = None) -> None:
        self._measures = DatabaseMetrics(metrics) if metrics is not None else None
        self._dsn = dsn
        self._hot_max = min(hot, pool_max - 1)
        self._pool_max = pool_max - self._hot_max
        self._name = name
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._hot_pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._hot: HotConnections | None = None

    @property
    def pool(self) -> asyncpg.Pool[asyncpg.Record]:
        """The open pool; raises :class:`Unavailable` before ``open``."""
        if self._pool is None:
            raise Unavailable("the database is not connected yet")
        return self._pool

    async def open(self) -> None:
        """Connect; raises what asyncpg raises if the server refuses."""
        self._pool = await self._connect(self._pool_max, {}, self._waited)
        if self._hot_max:
            self._hot_pool = await self._connect(self._hot_max, SETTINGS, lambda _: None)
            self._hot = HotConnections(self._hot_pool, self._hot_max, self._waited)
        if self._measures is not None:
            self._measures.watch(self._pools(), self._idle)

    async def _connect(
        self, most: int, settings: Mapping[str, str], waited: Callable[[float], None]
    ) -> asyncpg.Pool[asyncpg.Record]:
        pool = MeasuredPool(
            self._dsn,
            connection_class=asyncpg.Connection,
            record_class=asyncpg.Record,
            min_size=1,
            max_size=most,
            max_queries=50_000,
            loop=None,
            command_timeout=ANSWERED_WITHIN_S,
            timeout=5,
            max_inactive_connection_lifetime=0,
            reset=_keep,
            server_settings={
                "application_name": f"countersign-{self._name}",
                "timezone": "UTC",
                "jit": "off",
                **settings,
            },
        )
        pool.waited = waited
        return await pool

    def _pools(self) -> list[asyncpg.Pool[asyncpg.Record]]:
        return [pool for pool in (self._pool, self._hot_pool) if pool is not None]

    def _idle(self) -> int:
        return (self._pool.get_idle_size() if self._pool else 0) + (self._hot.idle() if self._hot else 0)

    def _waited(self, seconds: float) -> None:
        if self._measures is not None:
            self._measures.wait.observe(seconds)

    async def trouble(self) -> str | None:
        """Why it cannot be worked with now; None if it can, or if all connections are busy working."""
        try:
            async with self.pool.acquire(timeout=ASKED_WITHIN_S) as connection:
                try:
                    await connection.execute("SELECT 1", timeout=ASKED_WITHIN_S)
                except TimeoutError:
                    return f"PostgreSQL does not answer within {ASKED_WITHIN_S:.0f} s"
        except TimeoutError:
            return None
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            return f"PostgreSQL is away: {str(error) or type(error).__name__}"
        return None

    async def close(self) -> None:
        """Close every connection; those still busy after two seconds are cut."""
        pools, self._pool, self._hot_pool = self._pools(), None, None
        hot, self._hot = self._hot, None
        try:
            async with asyncio.timeout(2):
                if hot is not None:
                    await hot.close()
                await asyncio.gather(*(pool.close() for pool in pools))
        except TimeoutError:
            for pool in pools:
                pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection of the pool; leave no session state behind (see :meth:`session`)."""
        async with self.pool.acquire() as connection:
            yield connection

    def hot(self) -> AbstractAsyncContextManager[Connection]:
        """A connection for what every action runs, lookups by key and writes: each is planned once, and by index.

        Never for a list, nor for anything without an index: see :mod:`.hot`, and :meth:`fetch_planned`.
        """
        return self.connection() if self._hot is None else self._hot.one()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """A connection whose session may be changed: its locks and settings are undone when it is given back.

        One that cannot be reset is closed, which undoes them too.
        """
        async with self.pool.acquire() as connection:
            try:
                yield connection
            finally:
                try:
                    async with asyncio.timeout(2):
                        await connection.reset()
                except (
                    OSError,
                    TimeoutError,
                    asyncpg.PostgresError,
                    asyncpg.InterfaceError,
                    asyncpg.InternalClientError,
                ):
                    with suppress(asyncpg.InterfaceError):  # it ended by itself
                        connection.terminate()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside a transaction: committed at the end, rolled back on an exception."""
        async with self.pool.acquire() as connection, connection.transaction():
            yield connection

    async def fetch_planned(self, query: str, *values: Any) -> list[asyncpg.Record]:
        """The rows of a query that is planned for these very values: one round trip more than a kept statement.

        For lists, whose best plan depends on what is looked for: PostgreSQL plans a kept statement anew for its first
        five runs, and for no values in particular after that.
        """
        async with self.pool.acquire() as connection:
            statement = await connection.prepare(query, name="")  # the unnamed one is replaced by the next
            return await statement.fetch(*values)

    async def migrate(self, package: str) -> int:
        """Bring the schema up to this version, however long that takes; returns how many migrations ran.

        Raises :class:`MigrationError` if the database has migrations that this version does not know (a downgrade), or
        one that was changed after it ran; :class:`Unavailable` while others hold a table that must change.
        """
        try:
            return await self._migrate(package, known_migrations(package))
        except asyncpg.LockNotAvailableError:
            raise Unavailable("a table that must change is in use (a backup?)") from None

    async def _migrate(self, package: str, wanted: Mapping[int, tuple[str, str, str]]) -> int:
        async with self.transaction() as connection:
            await connection.execute(
                "SELECT pg_advisory_xact_lock($1)", zlib.crc32(package.encode()), timeout=_MIGRATED_WITHIN_S
            )
            await connection.execute(f"SET LOCAL lock_timeout = {LOCKED_WITHIN_MS}")
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_migration ("
                " version int PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL,"
                " applied_at timestamptz NOT NULL DEFAULT now())"
            )
            done = {
                r["version"]: r for r in await connection.fetch("SELECT version, name, sha256 FROM schema_migration")
            }
            require_known(self._name, {version: row["name"] for version, row in done.items()}, wanted)
            for version, row in done.items():
                if row["sha256"] != wanted[version][2]:
                    raise MigrationError(
                        f"migration {version:04d}_{row['name']} of {self._name} was changed after it ran;"
                        " restore the file and add a new migration instead"
                    )
            missing = [v for v in sorted(wanted) if v not in done]
            for version in missing:
                name, sql, digest = wanted[version]
                await connection.execute(sql, timeout=_MIGRATED_WITHIN_S)
                await connection.execute(
                    "INSERT INTO schema_migration (version, name, sha256) VALUES ($1, $2, $3)",
                    version,
                    name,
                    digest,
                )
        return len(missing)


async def _keep(_: object) -> None:
    """Nothing is reset at release, which would be a round trip each time: see :meth:`Database.session`."""


def require_known(service: str, done: Mapping[int, str], known: Container[int]) -> None:
    """Raises :class:`MigrationError` for a migration that this version does not know: one ran by a newer."""
    for version, name in sorted(done.items()):
        if version not in known:
            raise MigrationError(
                f"the {service} database is at migration {version:04d}_{name}, which this"
                " version does not know: it was written by a newer Countersign; install that version again"
            )


def known_migrations(package: str) -> dict[int, tuple[str, str, str]]:
    """The migrations of a service's package: by number, the name, the SQL and its SHA-256."""
    found: dict[int, tuple[str, str, str]] = {}
    for file in (resources.files(package) / "migrations").iterdir():
        if match := _MIGRATION.match(file.name):
            sql = file.read_text()
            found[int(match[1])] = (match[2], sql, hashlib.sha256(sql.encode()).hexdigest())
    return found
