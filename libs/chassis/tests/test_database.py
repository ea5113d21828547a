"""Migrations on a real PostgreSQL: forward only, once, under a lock, and honest about what does not fit."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from countersign_chassis import Database, Service, ServiceSettings
from countersign_chassis.database import MigrationError
from countersign_chassis.outages import OUTAGES
from countersign_contracts.errors import Unavailable


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "packages" / "some_service" / "migrations"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "0001_initial.sql").write_text("CREATE TABLE thing (id int PRIMARY KEY);")
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    sys.modules.pop("some_service", None)
    return folder


async def opened(stack: Any) -> Database:
    database = Database(stack.settings("policy")["postgres_dsn"], pool_max=4, name="policy")
    await database.open()
    return database


async def test_each_migration_runs_once_even_if_replicas_start_together(stack: Any, package: Path) -> None:
    database = await opened(stack)
    ran = await asyncio.gather(*(database.migrate("some_service") for _ in range(4)))
    assert sorted(ran) == [0, 0, 0, 1]
    (package / "0002_more.sql").write_text("INSERT INTO thing VALUES (1);")
    assert await database.migrate("some_service") == 1
    assert await database.pool.fetchval("SELECT count(*) FROM thing") == 1
    await database.close()


async def test_a_downgrade_is_refused_with_a_clear_line(stack: Any, package: Path) -> None:
    database = await opened(stack)
    (package / "0002_more.sql").write_text("SELECT 1;")
    await database.migrate("some_service")
    (package / "0002_more.sql").unlink()
    with pytest.raises(MigrationError, match="newer Countersign"):
        await database.migrate("some_service")
    await database.close()


async def test_a_changed_migration_is_refused(stack: Any, package: Path) -> None:
    database = await opened(stack)
    await database.migrate("some_service")
    (package / "0001_initial.sql").write_text("CREATE TABLE other (id int);")
    with pytest.raises(MigrationError, match="changed after it ran"):
        await database.migrate("some_service")
    await database.close()


async def test_a_failing_migration_leaves_nothing_behind(stack: Any, package: Path) -> None:
    database = await opened(stack)
    (package / "0002_wrong.sql").write_text("CREATE TABLE half (id int); SELECT no_such_function();")
    with pytest.raises(Exception, match="no_such_function"):
        await database.migrate("some_service")
    assert await database.pool.fetchval("SELECT to_regclass('thing')") is None
    await database.close()


async def test_a_migration_may_take_longer_than_any_other_statement(
    stack: Any, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("countersign_chassis.database.ANSWERED_WITHIN_S", 0.2)
    database = await opened(stack)
    (package / "0002_long.sql").write_text("SELECT pg_sleep(0.5);")
    assert await asyncio.gather(*(database.migrate("some_service") for _ in range(2))) in ([2, 0], [0, 2])
    with pytest.raises(TimeoutError):
        await database.pool.execute("SELECT pg_sleep(0.5)")
    await database.close()


@pytest.fixture
async def outdated(stack: Any, package: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """One that has a table, which the next migration changes; it waits for that table but briefly."""
    monkeypatch.setattr("countersign_chassis.database.LOCKED_WITHIN_MS", 100)
    database = await opened(stack)
    await database.migrate("some_service")
    (package / "0002_more.sql").write_text("ALTER TABLE thing ADD COLUMN more text;")
    yield database
    await database.close()


async def test_a_migration_does_not_hold_up_others_while_it_waits_for_a_table(outdated: Database) -> None:
    """A backup reads for an hour: what wants the table after the migration must not wait for that."""
    async with outdated.transaction() as backup:
        await backup.fetch("SELECT * FROM thing")
        with pytest.raises(Unavailable, match="a table that must change is in use"):
            await outdated.migrate("some_service")
        assert await outdated.pool.fetch("SELECT * FROM thing", timeout=10) == []
    assert await outdated.migrate("some_service") == 1


async def test_a_service_waits_for_a_table_that_it_must_change(stack: Any, outdated: Database) -> None:
    service = Service("policy", ServiceSettings(**stack.settings("policy"), log_level="error"))
    service.migrations("some_service")
    async with outdated.transaction() as backup:
        await backup.fetch("SELECT * FROM thing")
        starting = asyncio.create_task(service.start())
        async with asyncio.timeout(10):
            while service.unready() != ["waiting for the schema: a table that must change is in use (a backup?)"]:
                await asyncio.sleep(0.01)
        assert not starting.done()
    await starting
    assert await outdated.pool.fetch("SELECT more FROM thing") == []
    await service.stop()


async def test_a_service_enters_no_other_schema(stack: Any) -> None:
    database = await opened(stack)
    with pytest.raises(Exception, match="permission denied"):
        await database.pool.execute("CREATE TABLE gateway.mine (id int)")
    with pytest.raises(Exception, match="permission denied"):
        await database.pool.execute("CREATE TABLE public.mine (id int)")
    await database.close()


async def test_a_connection_that_the_server_is_ending_is_an_outage_and_no_bug_of_ours(stack: Any) -> None:
    """Found by faults: asyncpg, told so while the connection is idle, calls its next use an error of its own."""
    database = await opened(stack)
    fields = b"SFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
    connection: Any = await database.pool.acquire()
    try:
        connection._con._protocol.data_received(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
        with pytest.raises(OUTAGES):
            await connection.fetchval("SELECT 1")
    finally:
        connection.terminate()
        await database.pool.release(connection)
        await database.close()


async def test_a_list_is_planned_for_its_values_each_time(stack: Any) -> None:
    database = Database(stack.settings("policy")["postgres_dsn"], pool_max=1, name="policy")
    await database.open()
    query = "SELECT n FROM generate_series(1, 9) AS n WHERE n = ANY($1::int[])"
    for _ in range(8):
        assert [row["n"] for row in await database.fetch_planned(query, [3, 5])] == [3, 5]
    # what is kept has a plan for any values after five runs
    assert await database.pool.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE statement = $1", query) == 0
    for _ in range(8):
        await database.pool.fetch(query, [3, 5])
    kept = "SELECT generic_plans FROM pg_prepared_statements WHERE statement = $1"
    assert await database.pool.fetchval(kept, query) > 0
    await database.close()
