"""Statements for a batch of rows, however many these are.

Arrays and ``unnest`` take any number of rows in one statement, and cost PostgreSQL as much again as its work where the
rows are few, as those of an action alone are: few are given as plain values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from .database import Connection

#: Up to how many rows are few. Each number is a statement of its own, which every connection keeps.
FEW = 4


class BatchStatement:
    """``text`` has ``{rows}`` where the rows stand, as table ``u`` with ``columns`` (``request_id uuid, fence int``).

    Its other parameters, as many as ``others``, are $1 and following.
    """

    def __init__(self, text: str, columns: str, *, others: int = 0) -> None:
        names, types = zip(*(column.split() for column in columns.split(",")), strict=True)
        self._others = others
        self._names = ", ".join(names)
        self._types = types
        self.many = text.replace("{rows}", f"unnest({self._given(0, array='[]')}) AS u ({self._names})")
        self.few = tuple(text.replace("{rows}", self._plain(count)) for count in range(1, FEW + 1))

    async def fetch(self, connection: Connection, rows: Sequence[Sequence[Any]], *others: Any) -> list[asyncpg.Record]:
        """Run it for ``rows``, each with a value for every column."""
        text, values = self.of(rows)
        return await connection.fetch(text, *others, *values)

    def of(self, rows: Sequence[Sequence[Any]]) -> tuple[str, list[Any]]:
        """The statement for so many rows, and what follows the other parameters."""
        if 0 < len(rows) <= FEW:
            return self.few[len(rows) - 1], [value for row in rows for value in row]
        return self.many, [list(column) for column in zip(*rows, strict=True)] or [[] for _ in self._types]

    def _given(self, row: int, array: str = "") -> str:
        first = self._others + row * len(self._types) + 1
        return ", ".join(f"${first + place}::{type}{array}" for place, type in enumerate(self._types))

    def _plain(self, count: int) -> str:
        if count == 1:  # no table at all, once PostgreSQL has read it
            return f"(SELECT {self._given(0)}) AS u ({self._names})"
        return f"(VALUES {', '.join(f'({self._given(row)})' for row in range(count))}) AS u ({self._names})"
