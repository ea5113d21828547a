"""Concurrent writes are applied one after the other, and waiting for the database blocks nobody else."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def write_lock(database: Path) -> Iterator[None]:
    """Hold the database's write lock from outside, as another process would."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_concurrent_changes_of_a_ticket_follow_one_another_and_none_is_lost(api: Any) -> None:
    titles = [f"Title {number}" for number in range(60)]
    answers = await asyncio.gather(*(api.call("PATCH", "/tickets/1", json={"title": title}) for title in titles))
    assert [(status, ticket["title"]) for status, ticket in answers] == [(200, title) for title in titles]
    moves = [entry["detail"]["title"] for entry in await api.journal()]
    assert sorted(move["to"] for move in moves) == sorted(titles)
    assert [move["from"] for move in moves] == ["Issue with login", *(move["to"] for move in moves[:-1])]
    assert (await api.call("GET", "/tickets/1"))[1]["title"] == moves[-1]["to"]


async def test_changes_of_different_fields_at_once_are_both_kept(api: Any) -> None:
    await asyncio.gather(
        api.call("PATCH", "/tickets/1", json={"title": "New title"}),
        api.call("PATCH", "/tickets/1", json={"description": "New description"}),
    )
    _, ticket = await api.call("GET", "/tickets/1")
    assert (ticket["title"], ticket["description"]) == ("New title", "New description")


async def test_a_write_waiting_for_the_database_does_not_hold_up_reads(api: Any, database: Path) -> None:
    await api.call("GET", "/health")
    with write_lock(database):
        waiting = asyncio.create_task(api.call("PATCH", "/tickets/1", json={"status": "closed"}))
        async with asyncio.timeout(3):
            assert (await api.call("GET", "/health"))[0] == 200
            assert (await api.call("GET", "/tickets/1"))[1]["status"] == "open"
        assert not waiting.done()
    assert (await waiting)[1]["status"] == "closed"


async def test_a_write_that_cannot_get_the_database_in_time_says_so_and_did_nothing(serve: Any, database: Path) -> None:
    async with serve(database, lock_wait_s=0.05) as api:
        await api.call("GET", "/health")
        with write_lock(database):
            async with api.http.patch(f"{api.url}/tickets/1", json={"status": "closed"}) as answer:
                assert answer.status == 503
                assert answer.headers["Retry-After"] == "1"
                assert (await answer.json(content_type=None))["type"].endswith("/busy")
        assert await api.journal() == []
        assert (await api.call("PATCH", "/tickets/1", json={"status": "closed"}))[0] == 200
