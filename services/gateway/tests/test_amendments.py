"""What an approver changed: one action ends, another takes its place, exactly once; and its requester is told."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from countersign_chassis import Failpoints
from countersign_contracts.actions import Action, ActionDenied, Amendment, Decision
from countersign_contracts.model import now

from .conftest import ACTIONS, Desk


async def test_what_was_changed_ends_and_another_action_takes_its_place(make_desk: Any) -> None:
    desk = await make_desk()
    until = await desk.heard()
    first = await desk.held(over="nats", session_id="run-1", on_behalf_of="person:ann", reason="asked to")
    change = await desk.amend(first)
    new = (await desk.found(change.request_id))["action"]
    kept = {"agent_id", "session_id", "env", "tool", "tool_version", "principal_chain", "reason"}
    assert {k: new[k] for k in kept} == {k: first.model_dump(mode="json")[k] for k in kept}
    assert (new["args"], new["digest"], new["amends"]) == (change.args, change.digest, first.request_id)

    told = await until(first.request_id, "denied")
    assert (told.superseded_by, told.reasons[0].code) == (change.request_id, "amended")
    assert told.reason == f"changed by bob: so then; action {change.request_id} takes its place"
    assert (await until(change.request_id, "accepted")).session_id == "run-1"
    assert (await desk.ended(first.request_id))["superseded_by"] == change.request_id
    listed = await desk.world.ok("GET", f"{ACTIONS}?session_id=run-1", as_="worker-1")
    assert {item["request_id"] for item in listed["items"]} == {first.request_id, change.request_id}
    assert (await desk.world.request("GET", f"{ACTIONS}/{change.request_id}", as_="worker-2"))[0] == 404

    # decided anew: it is held like the first one
    await until(change.request_id, "held")
    assert desk.world.downstream.calls == []
    await desk.resolve(await desk.action(change.request_id))
    done = await until(change.request_id, "succeeded")
    assert (done.risk, done.reason) == ("high", "approved by bob: so then")
    assert [call["body"] for call in desk.world.downstream.calls] == ['{"status":"closed"}']

    trail = await desk.world.trail(first.request_id)
    assert trail[-1]["body"]["amendment"]["request_id"] == change.request_id
    assert (await desk.world.trail(change.request_id))[0]["body"]["action"]["amends"] == first.request_id


@pytest.mark.parametrize("point", ["gateway.before_amendment_commit", "gateway.after_amendment_before_publish"])
async def test_a_crash_in_between_leaves_one_action(make_desk: Any, point: str) -> None:
    crashes = 0

    async def crash_twice() -> None:
        nonlocal crashes
        crashes += 1
        if crashes < 3:
            raise ConnectionError("crash")

    desk = await make_desk(Failpoints({point: crash_twice}))
    first = await desk.held()
    change = await desk.amend(first)
    assert (await desk.ended(first.request_id))["superseded_by"] == change.request_id
    await desk.found(change.request_id)
    await desk.world.until(change.request_id, "held")  # published by the sweeper, where the crash was before that
    assert await desk.count() == 2
    # once it is committed a repeat makes nothing anew: the sweeper sends what is stored
    if point == "gateway.before_amendment_commit":
        assert crashes >= 3  # a slow try is made again while it goes on; one of them commits
    else:
        assert crashes == 1


async def test_what_the_bus_lost_is_accepted_all_the_same(make_desk: Any) -> None:
    """Policy has ended the first one, and its word of what takes its place is lost with the stream."""
    desk = await make_desk()
    world = desk.world
    first = await desk.held()
    await world.services["gateway"].stop()
    change = await desk.amend(first)
    policy = world.services["policy"].db.pool
    async with asyncio.timeout(10):
        while not await policy.fetchval(
            "SELECT outcome = 'deny' FROM decision WHERE request_id = $1::text::uuid", first.request_id
        ):
            await asyncio.sleep(0.02)
    bootstrap = await world.stack.client("bootstrap-core")
    for name in ("ACTIONS", "APPROVALS"):
        gone = await bootstrap.request(f"$JS.API.STREAM.DELETE.{name}", b"", timeout=2)
        assert orjson.loads(gone.data)["success"]
    await world.stack.apply_topology()
    await world.open_gateway(redrive_after_s=0.5)
    assert (await desk.found(change.request_id))["action"]["amends"] == first.request_id
    assert await desk.count() == 2


async def denied(desk: Desk, first: Action, amendment: Amendment) -> None:
    """Policy's word, from a policy service that went wrong."""
    decision = Decision(outcome="deny", reasons=(), policy_version="v", decided_at=now())
    policy = await desk.world.stack.bus("policy")
    await policy.publish(ActionDenied(action=first, decision=decision, amendment=amendment))


async def test_arguments_that_nobody_approved_are_refused_and_the_first_one_says_so(make_desk: Any) -> None:
    desk = await make_desk()
    first = await desk.held()
    await denied(desk, first, desk.change(first, args=first.args | {"status": "gone"}))
    state = await desk.ended(first.request_id)
    assert "superseded_by" not in state and state["state"] == "denied"
    assert "the change is not what was approved" in state["reason"]
    assert await desk.count() == 1


async def test_a_request_id_that_is_taken_is_refused(make_desk: Any) -> None:
    desk = await make_desk()
    first, other = await desk.held(), await desk.held(as_="worker-2")
    await denied(desk, first, desk.change(first, request_id=other.request_id))
    state = await desk.ended(first.request_id)
    assert "superseded_by" not in state and "refused" in state["reason"]
    assert (await desk.action(other.request_id)) == other


async def test_no_agent_can_say_that_its_action_takes_another_s_place(make_desk: Any) -> None:
    desk = await make_desk()
    first = await desk.held()
    for name in ("amends", "sealed_for"):
        body = {"tool": "write_thing", "args": first.args, "env": "prod", name: first.request_id}
        status, problem, _ = await desk.world.request("POST", ACTIONS, body, as_="worker-1")
        assert (status, problem["type"]) == (422, "urn:countersign:problem:invalid")
    # nor does a request with the new one's id become it, or learn of it
    change = await desk.amend(first)
    await desk.found(change.request_id)
    async with desk.world.agent() as agent:
        with pytest.raises(Exception, match="was used before with another body"):
            await agent.call("write_thing", change.args, env="prod", request_id=change.request_id)


async def test_the_bounds_at_the_door_do_not_hold_it_up_and_it_counts(make_desk: Any) -> None:
    desk = await make_desk(max_held_per_agent=1)
    first = await desk.held()
    change = await desk.amend(first)
    await desk.found(change.request_id)
    await desk.world.until(change.request_id, "held")
    body = {"tool": "read_thing", "args": {"thing_id": 1}, "env": "prod"}
    status, problem, _ = await desk.world.request("POST", ACTIONS, body, as_="worker-1")
    assert (status, problem["type"]) == (429, "urn:countersign:problem:overloaded")


async def test_who_waits_for_the_first_one_is_told_and_finds_the_new_one(make_desk: Any) -> None:
    desk = await make_desk()
    waiting = asyncio.create_task(desk.world.submit("write_thing", {"thing_id": 1, "status": "open"}, env="prod"))
    async with asyncio.timeout(10):
        while not (items := (await desk.world.ok("GET", f"{ACTIONS}?state=held"))["items"]):
            await asyncio.sleep(0.02)
    change = await desk.amend(await desk.action(items[0]["request_id"]))
    told = await waiting
    assert (told["state"], told["superseded_by"]) == ("denied", change.request_id)
    status, _, _ = await desk.world.request("GET", f"{ACTIONS}/{change.request_id}", as_="worker-1")
    assert status == 200
