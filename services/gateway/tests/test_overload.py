"""Beyond the bounds on open actions, on the running product: refused with a time to come back, or left in the queue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio
from nats.aio.client import Client

from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import new_id
from countersign_contracts.topology import stream
from countersign_harness.world import World

ACTIONS = "/api/v1/actions"
BODY = {"tool": "read_thing", "args": {"thing_id": 1}, "env": "dev"}
HELD = {"tool": "write_thing", "args": {"thing_id": 1, "status": "x"}, "env": "prod"}
SMALL = {"max_open": 4, "max_open_per_agent": 3, "max_held_per_agent": 2, "come_back_max_s": 1}


@pytest_asyncio.fixture
async def small(stack: Any) -> AsyncIterator[World]:
    """Four actions at once in all, three of one agent, two that wait for people; the business system stands still."""
    async with World(stack) as world:
        await world.start(overrides={"gateway": SMALL})
        yield world


async def post(world: World, body: Any = BODY, as_: str = "worker-1") -> tuple[int, Any, dict[str, str]]:
    return await world.request("POST", ACTIONS, body, as_=as_)


async def accepted(world: World, n: int, body: Any = BODY, as_: str = "worker-1") -> list[str]:
    return [await _accepted(world, body, as_) for _ in range(n)]


async def _accepted(world: World, body: Any, as_: str) -> str:
    """While the gateway counts, one that was just accepted may count twice: then there is room a moment later."""
    async with asyncio.timeout(30):
        while (answer := await post(world, body, as_))[0] in (429, 503):
            await asyncio.sleep(0.1)
    assert answer[0] == 202, answer
    return str(answer[1]["request_id"])


def write(thing_id: int = 1) -> bytes:
    return orjson.dumps({**BODY, "args": {"thing_id": thing_id}, "request_id": new_id()})


async def line(world: World, agent_id: str) -> Client:
    client: Client = await world.stack.client(agent_id, world.creds[agent_id])
    return client


async def queued(world: World) -> int:
    client = await world.stack.client("bootstrap-agents")
    info = json.loads((await client.request("$JS.API.STREAM.INFO.INGRESS", b"", timeout=5)).data)
    return int(info["state"]["messages"])


async def open_now(world: World) -> int:
    page = await world.ok("GET", f"{ACTIONS}?limit=200")
    return sum(item["state"] in ("accepted", "granted", "executing") for item in page["items"])


async def refusals(world: World, bound: str = "agent") -> float:
    """How many were refused at that bound."""
    port = world.services["gateway"].health.port
    shown = await (await world.http.get(f"http://127.0.0.1:{port}/metrics")).text()
    lines = (
        line
        for line in shown.splitlines()
        if line.startswith(f'countersign_actions_over_bound_total{{bound="{bound}"}}')
    )
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


async def test_an_agent_has_so_many_under_way_and_a_restart_does_not_forget_it(small: World) -> None:
    small.downstream.gate.clear()
    first = await accepted(small, 3)
    status, problem, headers = await post(small)
    assert (status, problem["type"]) == (429, "urn:countersign:problem:overloaded")
    assert int(headers["Retry-After"]) == problem["retry_after_s"] >= 1
    assert "agent worker-1 has 3 actions under way" in problem["detail"]
    assert (await post(small, BODY, "worker-2"))[0] == 202  # denied by policy in a moment: there is room for it

    await small.services["gateway"].stop()
    await small.open_gateway(**SMALL)
    assert (await post(small))[0] == 429
    small.downstream.gate.set()
    for request_id in first:
        await small.until(request_id, "succeeded")
    await accepted(small, 1)


async def test_everybody_together_has_so_many_under_way(stack: Any) -> None:
    async with World(stack) as world:
        await world.start(overrides={"gateway": {"max_open": 2}})
        world.downstream.gate.clear()
        first = await accepted(world, 2)
        before = await refusals(world, "everybody")
        status, problem, headers = await post(world, BODY, "worker-2")
        assert (status, problem["type"]) == (503, "urn:countersign:problem:at_capacity")
        assert int(headers["Retry-After"]) >= 1 and "2 actions are under way" in problem["detail"]
        assert await refusals(world, "everybody") == before + 1
        world.downstream.gate.set()
        for request_id in first:
            await world.until(request_id, "succeeded")
        await accepted(world, 1)


async def test_what_waits_for_people_keeps_nobody_else_waiting_but_has_a_bound_of_its_own(small: World) -> None:
    held = await accepted(small, 2, HELD)
    for request_id in held:
        await small.until(request_id, "held")
        await small.approval_of(request_id)
    async with asyncio.timeout(5):
        while (answer := await post(small))[0] != 429:
            await asyncio.sleep(0.05)
    assert "2 actions waiting for approval" in answer[1]["detail"] and answer[2]["Retry-After"] == "1"
    await small.vote(await small.approval_of(held[0]), "reject")
    await small.until(held[0], "denied")
    assert (await small.submit("read_thing", {"thing_id": 1}))["state"] == "succeeded"


async def test_a_call_over_nats_is_told_when_to_come_back_and_the_sdk_does(small: World) -> None:
    small.downstream.gate.clear()
    first = await accepted(small, 3)
    raw = await line(small, "worker-1")
    reply = json.loads((await raw.request("agents.worker-1.call", write(), timeout=10)).data)
    assert reply["problem"]["status"] == 429 and reply["problem"]["retry_after_s"] >= 1
    for over in ("nats", "http"):
        small.downstream.gate.clear()
        while (await post(small))[0] == 202:
            pass
        before = await refusals(small)
        async with small.agent(over=over) as agent:
            calling = asyncio.create_task(agent.call("read_thing", {"thing_id": 3}, env="dev", wait_s=25))
            async with asyncio.timeout(10):
                while await refusals(small) == before:
                    await asyncio.sleep(0.05)
            small.downstream.gate.set()
            assert (await calling).state == "succeeded"
    for request_id in first:
        await small.until(request_id, "succeeded")


async def test_what_is_queued_beyond_the_bounds_stays_in_the_stream_and_all_of_it_is_done_once(small: World) -> None:
    """Fifteen from one agent, three at a time: none is lost, dead-lettered or done twice; others get through."""
    small.downstream.gate.clear()
    raw = await line(small, "worker-1")
    js = raw.jetstream(timeout=10)
    bodies = [write(100 + n) for n in range(15)]
    await asyncio.gather(*(js.publish("agents.worker-1.actions", body) for body in bodies))
    async with asyncio.timeout(20):
        while len(small.downstream.calls) < 3:
            await asyncio.sleep(0.02)
    async with asyncio.timeout(20):  # taken are three, the others were looked at and put off
        while await queued(small) != 12:
            await asyncio.sleep(0.02)
    assert await open_now(small) == 3

    async with small.agent("worker-2") as other:  # heard behind all of that; its profile does not allow it
        assert (await other.submit("read_thing", {"thing_id": 1}, env="dev")).state == "accepted"
    small.downstream.gate.set()
    async with asyncio.timeout(90):
        while await queued(small) or await open_now(small):
            await asyncio.sleep(0.05)
    paths = sorted(call["path"] for call in small.downstream.calls)
    assert paths == sorted(f"/things/{100 + n}" for n in range(15))


async def test_the_server_refuses_an_agent_s_message_beyond_its_own_place_in_the_queue(stack: Any) -> None:
    """So that nobody's backlog keeps another from being queued; nothing runs here, so all of it stays."""
    most = stream("INGRESS").max_msgs_per_subject
    assert most is not None
    async with World(stack) as world:
        await world.start()
        await world.services["gateway"].stop()
        raw = await line(world, "worker-1")
        for n in range(most):
            await raw.publish("agents.worker-1.actions", b"%d" % n)
        await raw.flush()
        reply = json.loads((await raw.request("agents.worker-1.actions", write(), timeout=10)).data)
        assert "per subject" in reply["error"]["description"], reply
        other = await line(world, "worker-2")
        assert "error" not in json.loads((await other.request("agents.worker-2.actions", write(), timeout=10)).data)
        async with world.agent() as agent:
            with pytest.raises(CountersignError, match="nats-server did not take it"):
                await agent.submit("read_thing", {"thing_id": 1}, env="dev", timeout_s=1)
