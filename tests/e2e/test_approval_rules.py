"""Approval rules through the whole product: declared, followed, decided by people of groups, on the record."""

from __future__ import annotations

import asyncio
from typing import Any

RULES = """kind: approval_rule
name: two-of-security
match: {tools: [write_thing], environments: [prod]}
stages:
  - {name: owner, approvers: ["owner:team"]}
  - {name: security, approvers: ["group:security"], quorum: 2}
"""


async def groups(world: Any, **people: list[str]) -> None:
    """Add approvers who are in these groups."""
    for name, in_groups in people.items():
        body = {"name": name, "roles": ["approver"], "groups": in_groups}
        world.tokens[name] = (await world.ok("POST", "/api/v1/people", body))["token"]


async def voted(world: Any, approval: Any, count: int) -> Any:
    """The approval, once so many votes count."""
    async with asyncio.timeout(20):
        while True:
            found = await world.ok("GET", f"/api/v1/approvals/{approval['approval_id']}")
            if len(found["votes"]) == count:
                return found
            await asyncio.sleep(0.05)


async def test_two_of_a_group_after_the_owner_s_team_and_a_removed_approver_does_not_count(world: Any) -> None:
    result = await world.apply({"rules.yaml": RULES})
    assert result["errors"] == [] and [c["kind"] for c in result["changes"]] == ["approval_rule"]
    await groups(world, olga=["ops"], sam=["security"], zoe=["security"], finn=["security"])
    asked = await world.submit("write_thing", {"thing_id": 1, "status": "done"}, env="prod", wait=0)
    approval = await world.approval_of(asked["request_id"])
    assert approval["waits_for"] == ["1 of owner:team", "then 2 of group:security"]
    status, problem = await world.vote(approval, "approve", as_="sam")
    assert (status, problem["type"]) == (403, "urn:countersign:problem:not_entitled")
    assert "stage `owner` is open" in problem["detail"]
    for voter in ("olga", "sam"):
        assert (await world.vote(approval, "approve", as_=voter))[0] == 200
    status, _, _ = await world.request("DELETE", "/api/v1/people/sam")
    assert status == 204
    assert [vote["voter"] for vote in (await voted(world, approval, 1))["votes"]] == ["olga"]
    assert (await world.vote(approval, "approve", as_="zoe"))[0] == 200
    assert not world.downstream.calls
    status, view = await world.vote(approval, "approve", as_="finn")
    assert (status, view["state"]) == (200, "approved")
    assert await world.until(asked["request_id"], "succeeded") == "succeeded"
    assert len(world.downstream.calls) == 1
    kinds = [entry["kind"] for entry in await world.trail(asked["request_id"])]
    assert [kind for kind in kinds if kind.startswith("approvals.")] == [
        "approvals.requested",
        "approvals.vote_refused",
        "approvals.voted",
        "approvals.advanced",
        "approvals.voted",
        "approvals.vote_voided",
        "approvals.voted",
        "approvals.voted",
        "approvals.resolved",
    ]


async def test_a_file_with_a_wrong_rule_applies_nothing_and_says_where(world: Any) -> None:
    wrong = RULES.replace("write_thing", "wipe_thing").replace("quorum: 2", "quorum: 2, asurance: strong")
    result = await world.apply({"rules.yaml": wrong})
    assert not result["applied"]
    [error] = result["errors"]
    assert (error["path"], error["line"]) == ("rules.yaml", 6) and "did you mean `assurance`" in error["message"]
    result = await world.apply({"rules.yaml": wrong.replace("asurance", "assurance")})
    [error] = result["errors"]
    assert error["line"] == 3 and "no tool `wipe_thing`" in error["message"] and "write_thing" in error["allowed"]
