"""Connections for what every action runs, on a real PostgreSQL: kept, lost, failed, waited for and given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from countersign_chassis import Database
from countersign_chassis.metrics import Metrics
from countersign_chassis.outages import OUTAGES

_ME = "SELECT pg_backend_pid()"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest_asyncio.fixture
async def database(stack: Any, metrics: Metrics) -> AsyncIterator[Database]:
    """With two of them."""
    made = Database(stack.settings("policy")["postgres_dsn"], pool_max=3, name="policy", hot=2, metrics=metrics)
    await made.open()
    yield made
    await made.close()


async def pid(database: Database) -> int:
    async with database.hot() as connection:
        found: int = await connection.fetchval(_ME)
        return found


async def test_the_one_used_last_is_used_again(database: Database) -> None:
    first = await pid(database)
    assert {await pid(database) for _ in range(5)} == {first}
    async with database.hot() as one, database.hot() as other:
        assert await one.fetchval(_ME) == first != await other.fetchval(_ME)


async def test_who_finds_none_waits_for_one(database: Database, metrics: Metrics) -> None:
    async with database.hot(), database.hot():
        waiting = asyncio.create_task(pid(database))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        assert metrics.registry.get_sample_value("countersign_database_connections", {"of": "idle"}) == 1
    assert await waiting > 0
    assert (metrics.registry.get_sample_value("countersign_database_wait_seconds_sum") or 0) > 0.1
    assert metrics.registry.get_sample_value("countersign_database_connections", {"of": "idle"}) == 3


async def test_who_waits_in_vain_leaves_room(database: Database) -> None:
    async with database.hot(), database.hot():
        waiting = asyncio.create_task(pid(database))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait([waiting])
    async with database.hot(), database.hot():
        pass


async def test_one_that_the_server_ended_is_replaced(database: Database) -> None:
    lost = await pid(database)
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT pg_terminate_backend($1)", lost)
    async with asyncio.timeout(10):
        while True:  # its end may be seen before or by its next use
            try:
                assert await pid(database) != lost
                break
            except OUTAGES:
                continue
    async with database.hot(), database.hot():
        pass


async def test_what_failed_in_a_transaction_leaves_nothing_behind(database: Database) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with database.hot() as connection, connection.transaction():
            await connection.fetchval("SELECT 1 / 0")
    async with database.hot() as connection:
        assert not connection.is_in_transaction()
        assert await connection.fetchval("SHOW plan_cache_mode") == "force_generic_plan"


async def test_work_that_is_cut_off_is_not_waited_for_by_the_next(database: Database) -> None:
    async def sleep() -> None:
        async with database.hot() as connection:
            await connection.execute("SELECT pg_sleep(30)")

    sleeping = [asyncio.create_task(sleep()) for _ in range(2)]
    await asyncio.sleep(0.2)
    for task in sleeping:
        task.cancel()
    await asyncio.wait(sleeping)
    async with asyncio.timeout(10):
        async with database.hot() as one, database.hot() as other:
            assert [await one.fetchval("SELECT 1"), await other.fetchval("SELECT 2")] == [1, 2]
