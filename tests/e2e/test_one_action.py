"""One governed action, from the agent's call to the ledger, over both doors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from countersign_contracts.ids import new_id
from countersign_sdk import CountersignError


@pytest.mark.parametrize("over", ["nats", "http"])
async def test_a_low_risk_action_runs_once_and_is_on_record_before_its_effect(world: Any, over: str) -> None:
    async with world.agent(over=over) as agent:
        outcome = await agent.call("read_thing", {"thing_id": 7}, env="dev", session_id="s-1", reason="to see it")
    assert outcome.state == "succeeded" and outcome.result == {"ok": True}
    assert [(c["method"], c["path"], c["key"]) for c in world.downstream.calls] == [
        ("GET", "/things/7", outcome.request_id)
    ]
    trail = await world.trail(outcome.request_id)
    assert [entry["kind"] for entry in trail] == ["actions.requested", "actions.granted", "actions.executed"]
    assert [entry["seq"] for entry in trail] == sorted(entry["seq"] for entry in trail)


async def test_a_risky_action_waits_for_a_person_and_runs_for_exactly_what_was_approved(world: Any) -> None:
    asked = await world.submit("write_thing", {"thing_id": 1, "status": "done"}, env="prod", wait=0)
    approval = await world.approval_of(asked["request_id"])
    assert approval["action"]["args"] == {"thing_id": 1, "status": "done"}
    assert await world.state(asked["request_id"]) in ("accepted", "held") and not world.downstream.calls
    status, problem = await world.vote(approval, "approve", digest="sha256:" + "0" * 64)
    assert (status, problem["type"]) == (409, "urn:countersign:problem:digest_mismatch")
    status, problem = await world.vote(approval, "approve", as_="carol@example.com")
    assert status == 403 and "on call" in problem["detail"]
    status, _ = await world.vote(approval, "approve")
    assert status == 200
    assert await world.until(asked["request_id"], "succeeded") == "succeeded"
    assert len(world.downstream.calls) == 1
    kinds = [entry["kind"] for entry in await world.trail(asked["request_id"])]
    assert kinds == [
        "actions.requested",
        "actions.held",
        "approvals.requested",
        "approvals.vote_refused",
        "approvals.vote_refused",
        "approvals.voted",
        "approvals.resolved",
        "actions.granted",
        "actions.executed",
    ]


async def test_nobody_approves_a_request_made_on_their_behalf(world: Any) -> None:
    asked = await world.submit(
        "write_thing", {"thing_id": 1, "status": "x"}, env="prod", wait=0, on_behalf_of="person:alice"
    )
    status, problem = await world.vote(await world.approval_of(asked["request_id"]), "approve")
    assert status == 403 and "on behalf of alice" in problem["detail"]


async def test_a_rejected_action_does_not_run_and_gives_its_reservation_back(world: Any) -> None:
    for _ in range(6):
        asked = await world.submit("write_thing", {"thing_id": 1, "status": "x"}, env="prod", wait=0, session_id="s-r")
        await world.vote(await world.approval_of(asked["request_id"]), "reject")
        assert await world.until(asked["request_id"], "denied", "expired") == "denied"
    assert not world.downstream.calls


async def test_nobody_voting_in_time_is_a_denial(world: Any) -> None:
    asked = await world.submit("write_thing", {"thing_id": 1, "status": "x"}, env="prod", wait=0, as_="worker-2")
    assert await world.until(asked["request_id"], "expired") == "expired"
    assert not world.downstream.calls


async def test_the_sixth_update_of_a_run_is_refused_even_when_asked_at_once(world: Any) -> None:
    outcomes = await asyncio.gather(
        *(world.submit("write_thing", {"thing_id": n, "status": "x"}, session_id="s-6") for n in range(1, 10)),
        return_exceptions=False,
    )
    states = sorted(o["state"] for o in outcomes)
    assert states.count("denied") == 4 and states.count("held") + states.count("succeeded") == 5


async def test_a_stop_halts_what_was_approved_and_lifting_it_lets_go_on(world: Any) -> None:
    asked = await world.submit("write_thing", {"thing_id": 1, "status": "x"}, env="prod", wait=0)
    approval = await world.approval_of(asked["request_id"])
    stop = await world.ok("POST", "/api/v1/stops", {"scope": "tool:write_thing", "reason": "broken"})
    await world.vote(approval, "approve")
    assert await world.until(asked["request_id"], "denied", "succeeded") == "denied"
    assert (await world.submit("read_thing", {"thing_id": 1}))["state"] == "succeeded"
    await world.ok("DELETE", f"/api/v1/stops/{stop['stop_id']}")
    asked = await world.submit("write_thing", {"thing_id": 1, "status": "x"}, env="prod", wait=0)
    await world.vote(await world.approval_of(asked["request_id"]), "approve")
    assert await world.until(asked["request_id"], "denied", "succeeded") == "succeeded"


async def test_a_held_action_can_be_cancelled_and_a_granted_one_cannot(world: Any) -> None:
    asked = await world.submit("write_thing", {"thing_id": 1, "status": "x"}, env="prod", wait=0)
    approval = await world.approval_of(asked["request_id"])
    cancelled = await world.ok("POST", f"/api/v1/actions/{asked['request_id']}/cancel", {"reason": "not needed"})
    assert cancelled["state"] == "cancelled"
    status, problem = await world.vote(approval, "approve")
    assert status == 409 and not world.downstream.calls, problem
    done = await world.submit("read_thing", {"thing_id": 1})
    status, problem, _ = await world.request("POST", f"/api/v1/actions/{done['request_id']}/cancel", {})
    assert (status, problem["type"]) == (409, "urn:countersign:problem:already_final")


async def test_queued_over_nats_then_accepted_then_the_outcome(world: Any) -> None:
    async with world.agent() as agent:
        request_id = new_id()
        accepted = await agent.submit("read_thing", {"thing_id": 3}, env="dev", request_id=request_id)
        assert accepted.request_id == request_id
        again = await agent.submit("read_thing", {"thing_id": 3}, env="dev", request_id=request_id)
        assert again.request_id == request_id
        outcome = await agent.wait(request_id, 10)
        assert outcome.state == "succeeded"
        with pytest.raises(CountersignError) as conflict:
            await agent.submit("read_thing", {"thing_id": 4}, env="dev", request_id=request_id)
        assert conflict.value.code == "idempotency_conflict"
    assert len(world.downstream.calls) == 1


async def test_revoking_an_agent_stops_its_next_request_and_drops_its_connection(world: Any) -> None:
    client = await world.stack.client("worker-1", world.creds["worker-1"])
    await world.ok("POST", "/api/v1/agents/worker-1/revoke", {"reason": "compromised"})
    status, problem, _ = await world.request(
        "POST", "/api/v1/actions", {"tool": "read_thing", "args": {"thing_id": 1}, "env": "dev"}, as_="worker-1"
    )
    assert (status, problem["type"]) == (401, "urn:countersign:problem:unauthenticated")
    async with asyncio.timeout(5):
        while not client.is_closed:
            await asyncio.sleep(0.02)


async def test_a_paused_agent_is_denied_with_that_reason_until_it_is_resumed(world: Any) -> None:
    await world.ok("POST", "/api/v1/agents/worker-1/pause", {"reason": "maintenance"})
    denied = await world.submit("read_thing", {"thing_id": 1})
    assert denied["state"] == "denied" and denied["reasons"][0]["code"] == "agent_paused"
    await world.ok("POST", "/api/v1/agents/worker-1/resume", {"reason": "done"})
    assert (await world.submit("read_thing", {"thing_id": 1}))["state"] == "succeeded"
