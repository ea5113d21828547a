"""What every action runs is planned once, and by index, even where its plan is made while the tables are empty."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from countersign_audit import store as entries
from countersign_chassis import Connection, Database
from countersign_contracts.ids import new_id
from countersign_executor import executions
from countersign_gateway import store as actions
from countersign_policy import store as decisions

#: Each with the table that grows; for one row, for a few, and for many.
STATEMENTS = [
    *(
        (service, statement, table)
        for service, batch, table in (
            ("gateway", actions._ACCEPT, "action"),
            ("gateway", actions._APPLY, "action"),
            ("policy", decisions._INSERT, "decision"),
            ("policy", decisions._INSERT_COUNTED, "decision"),
            ("policy", decisions._INSERT_COUNTED, "guardrail_usage"),
            ("executor", executions._FINISH, "executions"),
            ("audit", entries._APPEND, "entries"),
        )
        for statement in (batch.few[0], batch.few[-1], batch.many)
    ),
    ("policy", decisions._FIND, "decision"),
    ("policy", decisions._RESERVE, "guardrail_usage"),
]


@asynccontextmanager
async def opened(stack: Any, service: str, pool_max: int = 2) -> AsyncIterator[Database]:
    database = Database(stack.settings(service)["postgres_dsn"], pool_max=pool_max, name=service, hot=1)
    await database.open()
    try:
        await database.migrate(f"countersign_{service}")
        yield database
    finally:
        await database.close()


def scanned(plan: dict[str, Any]) -> Iterator[str]:
    """The tables that a plan reads whole."""
    if plan["Node Type"] == "Seq Scan":
        yield plan["Relation Name"]
    for part in plan.get("Plans", ()):
        yield from scanned(part)


async def read_whole(connection: Connection, statement: str) -> set[str]:
    """Which tables the plan for no values in particular reads whole."""
    prepared = await connection.prepare(statement, name="judged")
    nothing = ", ".join("NULL" for _ in prepared.get_parameters())
    [[text]] = await connection.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE judged ({nothing})")
    return set(scanned(json.loads(text)[0]["Plan"]))


@pytest.mark.parametrize(("service", "statement", "table"), STATEMENTS)
async def test_a_new_systems_plans_do_not_read_a_table_that_grows(
    stack: Any, service: str, statement: str, table: str
) -> None:
    async with opened(stack, service) as database, database.hot() as connection:
        assert table not in await read_whole(connection, statement)


async def test_elsewhere_such_a_plan_would(stack: Any) -> None:
    """Or the test above could not fail."""
    async with opened(stack, "gateway") as database, database.connection() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        assert "action" in await read_whole(connection, actions._APPLY.many)


@pytest.mark.parametrize(("service", "table"), sorted({(service, table) for service, _, table in STATEMENTS}))
async def test_no_check_is_read_and_planned_for_each_of_their_rows(stack: Any, service: str, table: str) -> None:
    checks = "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid = to_regclass($1)"
    async with opened(stack, service) as database, database.connection() as connection:
        assert await connection.fetchval("SELECT to_regclass($1)", table) is not None
        assert [row["conname"] for row in await connection.fetch(checks, table)] == []


async def test_a_claim_reads_no_executions_but_its_own(stack: Any) -> None:
    arguments = (["exe_1"], ["sha256:a"], ["nope"], [1], ["all env:prod"])
    async with (
        opened(stack, "executor") as database,
        database.hot() as connection,
        connection.transaction(),
    ):
        for _ in range(8):
            await connection.fetch(executions._CLAIM, "own_1", [new_id()], *arguments)
        rows = await connection.fetch("SELECT relname FROM pg_stat_xact_user_tables WHERE seq_scan > 0")
        assert {row["relname"] for row in rows}.isdisjoint({"executions", "stops", "tools"})


async def test_a_batch_of_one_is_not_planned_each_time(stack: Any) -> None:
    async with opened(stack, "policy") as database, database.hot() as connection:
        for _ in range(8):
            await connection.fetch(decisions._FIND, [new_id()])
        [[generic, custom]] = await connection.fetch(
            "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = $1", decisions._FIND
        )
    assert (generic, custom) == (8, 0)


async def test_a_single_connection_serves_for_all(stack: Any) -> None:
    async with opened(stack, "policy", pool_max=1) as database, database.hot() as connection:
        assert await connection.fetchval("SHOW plan_cache_mode") == "auto"
