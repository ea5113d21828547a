"""What the bus lost between an outcome and the ledger is sent again until it is on record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest_asyncio

from countersign_harness.world import World

WRITE = {"thing_id": 1, "status": "x"}


@pytest_asyncio.fixture
async def world(stack: Any) -> AsyncIterator[Any]:
    """The whole product; its gateway looks after ends half a second after they came."""
    async with World(stack) as world:
        await world.start(overrides={"gateway": {"on_record_after_s": 0.5, "redrive_after_s": 0.5}})
        yield world


async def until_called(world: Any) -> None:
    async with asyncio.timeout(10):
        while not world.downstream.calls:
            await asyncio.sleep(0.01)


async def kinds(world: Any, request_id: str) -> list[str]:
    found = await world.ok("GET", f"/api/v1/audit/timeline?request_id={request_id}")
    return [entry["kind"] for entry in found["items"]]


async def unproven(world: Any) -> int:
    rows = await world.services["gateway"].db.pool.fetch(
        "SELECT FROM action WHERE drive_at IS NOT NULL AND end_event IS NOT NULL"
    )
    return len(rows)


async def test_ends_that_the_bus_lost_before_audit_had_them_are_on_record_in_the_end(world: Any) -> None:
    world.downstream.gate.clear()
    executing = asyncio.create_task(world.submit("write_thing", WRITE))
    await until_called(world)
    await world.services["audit"].stop()
    world.downstream.gate.set()
    done = await executing
    denied = await world.submit("write_thing", {"thing_id": 1, "note": "not allowed"})
    assert (done["state"], denied["state"]) == ("succeeded", "denied")
    bootstrap = await world.stack.client("bootstrap-core")
    gone = await bootstrap.request("$JS.API.STREAM.DELETE.ACTIONS", b"", timeout=2)
    assert orjson.loads(gone.data)["success"]
    await world.stack.apply_topology()
    world.services["audit"] = await world.stack.service("audit")
    async with asyncio.timeout(30):
        while "actions.executed" not in await kinds(world, done["request_id"]):
            await asyncio.sleep(0.05)
        while "actions.denied" not in await kinds(world, denied["request_id"]):
            await asyncio.sleep(0.05)
        while await unproven(world):
            await asyncio.sleep(0.05)
    assert len(world.downstream.calls) == 1
    assert await world.state(done["request_id"]) == "succeeded"


async def test_what_is_on_record_is_not_sent_again(world: Any) -> None:
    done = await world.submit("read_thing", {"thing_id": 1})
    pool = world.services["gateway"].db.pool
    async with asyncio.timeout(10):
        while not await pool.fetchval(
            "SELECT until > updated_at FROM on_record, action WHERE request_id = $1::text::uuid", done["request_id"]
        ):
            await asyncio.sleep(0.02)
    assert await unproven(world) == 0
    assert await pool.fetchval("SELECT sum(drives) FROM action") == 0
    assert "audit.repeated" not in await kinds(world, done["request_id"])
