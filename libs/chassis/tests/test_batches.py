"""A batch does the same however its rows are given: as plain values, as a few of these, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from countersign_chassis import BatchStatement
from countersign_chassis.batches import FEW

COLUMNS = "id int, said text, at timestamptz, body bytea, big boolean"
READ = BatchStatement("SELECT u.*, $1::text AS by FROM {rows} WHERE u.id <> $2", COLUMNS, others=2)
ALONE = BatchStatement("SELECT u.id, u.said FROM {rows}", "id int, said text")
WRITE = BatchStatement(
    "INSERT INTO kept (id, said) SELECT u.id, u.said FROM {rows} ORDER BY u.n ON CONFLICT (id) DO NOTHING RETURNING id",
    "id int, said text, n int",
)


def rows(count: int) -> list[tuple[Any, ...]]:
    return [(n, None if n == 1 else f"'{n}'", None, None if n % 2 else b"\x00{rows}", n > 2) for n in range(count)]


@pytest.mark.parametrize("count", [0, 1, 2, FEW, FEW + 1, 300])
async def test_any_number_of_rows_is_the_same(stack: Any, count: int) -> None:
    connection = await asyncpg.connect(stack.superuser_dsn())
    try:
        found = await READ.fetch(connection, rows(count), "me", -1)
        assert [tuple(row) for row in found] == [(*row, "me") for row in rows(count)]
        assert await READ.fetch(connection, rows(count)[:1], "me", 0) == []
        assert [tuple(row) for row in await ALONE.fetch(connection, [row[:2] for row in rows(count)])] == [
            row[:2] for row in rows(count)
        ]
        await connection.execute("CREATE TEMP TABLE kept (id int PRIMARY KEY, said text)")
        twice: Sequence[tuple[int, str, int]] = [(n // 2, f"{n}", n) for n in range(count)]
        written = await WRITE.fetch(connection, twice)
        assert [row["id"] for row in written] == [n for n in range((count + 1) // 2)]
        kept = await connection.fetch("SELECT said FROM kept ORDER BY id")
        assert [row["said"] for row in kept] == [f"{2 * n}" for n in range((count + 1) // 2)], "the first of two counts"
    finally:
        await connection.close()


def test_each_number_of_few_rows_is_a_statement_of_its_own() -> None:
    assert len({READ.of(rows(count))[0] for count in range(1, 40)}) == FEW + 1
    assert READ.of(rows(FEW + 1))[0] == READ.of([])[0] == READ.many
    assert READ.of([])[1] == [[], [], [], [], []]
