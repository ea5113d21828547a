"""The requester hears of it: held, whom it waits for, what happens meanwhile, the decision and what people said."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from countersign_contracts.actions import ActionResult
from countersign_contracts.approval_rules import Stage
from countersign_contracts.approvals import (
    ApprovalAdvanced,
    ApprovalEscalated,
    ApprovalOverdue,
    ApprovalReminded,
    ApprovalRequested,
    ApprovalVoted,
    AskedBy,
    Vote,
)
from countersign_contracts.model import now, rfc3339

from .conftest import ACTIONS

ASKED_BY = AskedBy(
    rule="production",
    stages=(
        Stage(name="owner", approvers=("owner:oncall",)),
        Stage(name="security", approvers=("group:security",), quorum=2),
    ),
)


def said(word: str) -> Any:
    return lambda result: result.approval is not None and result.approval["said"] == word


async def test_an_agent_is_told_whom_its_action_waits_for(make_desk: Any) -> None:
    desk = await make_desk()
    until = await desk.heard()
    action = await desk.held(over="nats")
    deadline = now() + timedelta(minutes=5)

    async def told(word: str) -> ActionResult:
        result: ActionResult = await until(action.request_id, "held", said(word))
        found = await desk.found(action.request_id)
        assert found["approval"] == result.approval and found["state"] == "held"
        return result

    await desk.say(ApprovalRequested, action, requested_at=now(), deadline=deadline, asked_by=ASKED_BY)
    first = await told("requested")
    assert first.approval == {
        "approval_id": f"apr_{action.request_id.replace('-', '')}",
        "said": "requested",
        "waits_for": ["1 of owner:oncall", "then 2 of group:security"],
        "deadline": rfc3339(deadline),
        "voters": [],
    }
    assert (first.risk, first.approval_id) == ("high", first.approval["approval_id"])
    vote = Vote(
        voter="carol",
        vote="approve",
        digest=action.digest,
        channel="cli",
        comment="not yet told",
        voted_at=now(),
        stage="owner",
    )
    await desk.say(ApprovalVoted, action, vote=vote)
    voted = await told("voted")
    assert voted.approval is not None
    assert (voted.approval["waits_for"], voted.approval["voters"]) == (["2 of group:security"], ["carol"])
    assert "not yet told" not in str(voted.approval)
    await desk.say(ApprovalAdvanced, action, stage="owner", at=now())
    await told("advanced")
    await desk.say(ApprovalReminded, action, step=0, to=("group:security",), reminded_at=now())
    await told("reminded")
    await desk.say(ApprovalEscalated, action, step=0, to=("person:dora",), escalated_at=now())
    escalated = await told("escalated")
    assert escalated.approval is not None
    assert escalated.approval["waits_for"] == ["2 of group:security or person:dora"]
    await desk.say(ApprovalOverdue, action, deadline=deadline, at=now())
    await told("overdue")
    listed = await desk.world.ok("GET", f"{ACTIONS}?state=held", as_="worker-1")
    assert listed["items"][0]["approval"]["said"] == "overdue"
    assert await desk.world.ok("GET", f"{ACTIONS}?state=accepted&state=held", as_="worker-1") == listed
    others = await desk.world.ok("GET", f"{ACTIONS}?state=accepted&state=granted", as_="worker-1")
    assert others["items"] == []
    # over NATS it is asked for like over HTTP
    async with desk.world.agent() as agent:
        assert (await agent.get(action.request_id)).approval == listed["items"][0]["approval"]

    await desk.resolve(action)
    done = await until(action.request_id, "succeeded")
    assert (done.reason, done.approval, done.risk) == ("approved by bob: so then", None, "high")
    state = await desk.ended(action.request_id)
    assert (state["reason"], state["reasons"][0]["code"]) == ("approved by bob: so then", "approved")
    assert "approval" not in state


async def test_what_is_heard_survives_the_gateway_and_comes_before_the_hold_too(make_desk: Any) -> None:
    desk = await make_desk()
    action = await desk.held()
    await desk.say(ApprovalRequested, action, requested_at=now(), deadline=now(), asked_by=ASKED_BY)
    async with asyncio.timeout(10):
        while "approval" not in await desk.found(action.request_id):
            await asyncio.sleep(0.02)
    await desk.world.services["gateway"].stop()
    pool = (await desk.world.stack.service("gateway")).db.pool
    rows = await pool.fetch("SELECT state, approval FROM action")
    assert [(row["state"], "owner:oncall" in row["approval"]) for row in rows] == [("held", True)]


async def test_the_outcome_of_a_fast_action_says_how_risky_it_was(make_desk: Any) -> None:
    world = (await make_desk()).world
    assert (await world.submit("read_thing", {"thing_id": 1}))["risk"] == "low"
    assert (await world.submit("write_thing", {"thing_id": 1, "note": "x"}))["risk"] == "medium"
    async with world.agent() as agent:
        assert (await agent.call("write_thing", {"thing_id": 1, "status": "x"}, env="dev")).risk == "medium"
    await world.ok("POST", "/api/v1/stops", {"scope": "tool:read_thing", "reason": "x"})
    stopped = await world.submit("read_thing", {"thing_id": 1})
    assert stopped["state"] == "denied"
