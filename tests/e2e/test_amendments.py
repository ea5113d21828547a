"""An approver narrows what an agent asked for: the whole way, through the real services."""

from __future__ import annotations

import asyncio
from typing import Any

from countersign_harness.payments import PAY, RULE, TOOL

PROFILE = """
kind: profile
name: worker
environments: [dev, prod]
tools: [pay]
guardrails:
  - {kind: spend, name: budget, tools: [pay], field: amount, limit: 150, per: agent, window_s: 3600}
approval_deadline_s: 3600
"""


async def declare(world: Any, quorum: int) -> None:
    result = await world.apply(
        {"pay.yaml": TOOL, "worker.yaml": PROFILE, "rule.yaml": RULE.replace("QUORUM", str(quorum))}
    )
    assert result["errors"] == [], result


async def change(world: Any, approval: Any, amount: int, *, as_: str = "alice") -> tuple[int, Any]:
    """Approve it with another amount."""
    body = {
        "vote": "approve",
        "digest": approval["action"]["digest"],
        "changes": {"amount": amount},
        "comment": "half of it",
    }
    path = f"/api/v1/approvals/{approval['approval_id']}/votes"
    status, answer, _ = await world.request("POST", path, body, as_=as_)
    return status, answer


async def test_what_was_narrowed_runs_and_what_was_asked_for_does_not(world: Any) -> None:
    await declare(world, 1)
    async with world.agent() as agent:
        first = await agent.submit("pay", PAY, env="prod", session_id="run", queued=False)
        approval = await world.approval_of(first.request_id)
        assert (approval["resource"], approval["preview"]) == ("accounts/ann", "Pay 100 to ann")
        status, _ = await change(world, approval, 50)
        assert status == 200
        done = await agent.wait(first.request_id, 15)  # it follows to what takes its place
    assert done.state == "succeeded"
    (call,) = world.downstream.calls
    assert call["body"] == '{"amount":50,"pin":"hunter2"}'  # sealed for the first action, and opened for this one
    trail = await world.trail(first.request_id)
    assert trail[-1]["kind"] == "actions.denied"
    assert trail[-1]["body"]["amendment"]["request_id"] == done.request_id
    kinds = [entry["kind"] for entry in await world.trail(done.request_id)]
    assert kinds[0] == "actions.requested" and "actions.held" in kinds and kinds[-1] == "actions.executed"
    policy = world.services["policy"].db.pool
    assert await policy.fetchval("SELECT sum(amount) FROM guardrail_usage") == 50


async def test_it_is_decided_anew(world: Any) -> None:
    """The first one gave its part of the budget back; what was spent meanwhile counts for the new one."""
    await declare(world, 2)
    first = await world.submit("pay", PAY, env="prod", wait=0)
    approval = await world.approval_of(first["request_id"])
    status, _ = await world.vote(approval, "approve", as_="bob")
    assert status == 200
    await change(world, approval, 60)
    await world.until(first["request_id"], "denied")
    new = (await world.ok("GET", f"/api/v1/actions/{first['request_id']}"))["superseded_by"]
    async with asyncio.timeout(20):  # who proposed a change has voted for it, a moment after it is asked about
        while not (second := await world.approval_of(new))["votes"]:
            await asyncio.sleep(0.02)
    assert [vote["voter"] for vote in second["votes"]] == ["alice"]
    assert second["state"] == "pending" and second["amends"] == first["request_id"]
    assert world.downstream.calls == []
    await world.ok("POST", "/api/v1/agents/worker-1/pause", {"reason": "a look at it"})
    await world.vote(second, "approve", as_="bob")
    await world.until(new, "denied")
    assert "paused" in (await world.ok("GET", f"/api/v1/actions/{new}"))["reason"]
    assert world.downstream.calls == []


async def test_changed_and_cancelled_at_once_ends_one_way(world: Any) -> None:
    await declare(world, 1)
    for amount in (30, 20, 10):
        first = await world.submit("pay", {"amount": 40, "to": "ann"}, env="prod", wait=0)
        id = first["request_id"]
        approval = await world.approval_of(id)
        await asyncio.gather(
            change(world, approval, amount),
            world.request("POST", f"/api/v1/actions/{id}/cancel", {}, as_="worker-1"),
        )
        state = await world.until(id, "denied", "cancelled")
        found = await world.ok("GET", f"/api/v1/actions/{id}")
        assert ("superseded_by" in found) is (state == "denied")
        if state == "denied":
            await world.until(found["superseded_by"], "succeeded")
    async with asyncio.timeout(10):
        while (await world.ok("GET", "/api/v1/actions?state=held"))["items"]:
            await asyncio.sleep(0.02)
    superseded = [
        item for item in (await world.ok("GET", "/api/v1/actions?limit=200"))["items"] if "superseded_by" in item
    ]
    assert len(world.downstream.calls) == len(superseded)
