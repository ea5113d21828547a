"""Rules, stages, one-time codes, changes, standing approvals and several votes at once, through all services."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import pytest_asyncio

from countersign_harness.authenticator import Authenticator
from countersign_harness.world import World
from countersign_sdk import progress_of

APPROVALS = "/api/v1/approvals"
DECLARED = """
kind: tool
name: pay
description: Pay money out of an account.
effect: write
idempotent: true
resource: accounts/{account}
preview: "Pay {cents} cents out of {account}"
arguments:
  type: object
  additionalProperties: false
  required: [account, cents]
  properties:
    account: {type: string, maxLength: 64}
    cents: {type: integer, minimum: 1}
    note: {type: string}
http: {method: POST, url: "URL/things/pay", body: [account, cents, note], allow_private: true}
---
kind: profile
name: worker
environments: [dev, prod]
tools: [pay, read_thing]
"""
RULES = """
kind: approval_rule
name: payments
match: {tools: [pay]}
stages:
  - {name: owner, approvers: ["group:ops"]}
  - {name: security, approvers: ["group:security"], quorum: 2, assurance: strong}
"""
TWO = """
kind: approval_rule
name: payments
match: {tools: [pay]}
stages:
  - {name: owner, approvers: ["group:ops"]}
  - {name: security, approvers: ["group:security"]}
"""
GENEROUS = """
kind: approval_rule
name: payments
match: {tools: [pay]}
stages: [{name: owner, approvers: ["group:ops"]}]
changes: {cents: lower, note: remove}
standing: {max_uses: 20, max_s: 3600}
"""


@pytest_asyncio.fixture
async def paying(world: World) -> World:
    """The world with a paying tool; alice is in ops, bob and erin are in security and have one-time codes."""
    assert (await world.apply({"pay.yaml": DECLARED}))["errors"] == []
    await add(world, "alice", ["ops"])
    for name in ("bob", "erin"):
        await add(world, name, ["security"])
    return world


async def add(world: World, name: str, groups: list[str]) -> None:
    body = {"name": name, "roles": ["approver"], "groups": groups}
    world.tokens[name] = (await world.ok("POST", "/api/v1/people", body))["token"]


async def authenticator(world: World, name: str) -> Authenticator:
    app = Authenticator((await world.ok("POST", "/api/v1/me/totp", {}, as_=name))["secret"])
    await world.ok("POST", "/api/v1/me/totp/confirm", {"code": app.code()}, as_=name)
    return app


async def declare(world: World, rule: str) -> None:
    assert (await world.apply({"rule.yaml": rule}))["errors"] == []


async def held(world: World, **more: Any) -> Any:
    args = {"account": more.pop("account", "A-1"), "cents": more.pop("cents", 900), **more}
    asked = await world.submit("pay", args, env="prod", wait=0)
    await world.until(asked["request_id"], "held")
    return await world.approval_of(asked["request_id"])


async def vote(world: World, approval: Any, who: str, vote: str = "approve", **more: Any) -> tuple[int, Any]:
    body = {"vote": vote, "digest": approval["action"]["digest"], **more}
    status, answer, _ = await world.request("POST", f"{APPROVALS}/{approval['approval_id']}/votes", body, as_=who)
    return status, answer


def problem(answer: Any) -> str:
    return str(answer["type"]).rpartition(":")[2]


async def mine(world: World, who: str) -> list[str]:
    found = await world.ok("GET", f"{APPROVALS}?state=pending&mine=true", as_=who)
    return [item["action"]["request_id"] for item in found["items"]]


@pytest.mark.timeout(300)
async def test_stages_follow_one_another_and_the_strong_one_takes_one_time_codes_alone(paying: World) -> None:
    await declare(paying, RULES)
    codes = {name: await authenticator(paying, name) for name in ("bob", "erin")}
    approval = await held(paying)
    request_id = approval["action"]["request_id"]
    assert approval["preview"] == "Pay 900 cents out of A-1" and approval["resource"] == "accounts/A-1"
    assert [stage["state"] for stage in approval["stages"]] == ["open", "waiting"]
    assert (await mine(paying, "alice"), await mine(paying, "bob")) == ([request_id], [])
    status, answer = await vote(paying, approval, "bob", code=codes["bob"].code())
    assert status == 403 and problem(answer) == "not_entitled", "not his turn"
    assert (await vote(paying, approval, "alice"))[1]["state"] == "pending"
    assert (await mine(paying, "alice"), await mine(paying, "bob")) == ([], [request_id])

    status, answer = await vote(paying, approval, "bob")
    assert (status, problem(answer)) == (403, "assurance") and "one-time code" in answer["detail"]
    status, answer = await vote(paying, approval, "bob", code="000000")
    assert (status, problem(answer)) == (403, "wrong_code") and "nothing was voted" in answer["detail"]
    used = codes["bob"].code()
    status, answer = await vote(paying, approval, "bob", code=used)
    assert status == 200 and answer["state"] == "pending" and answer["waits_for"]
    other = await held(paying, account="A-2")
    await vote(paying, other, "alice")
    status, answer = await vote(paying, other, "bob", code=used)
    assert (status, problem(answer)) == (403, "wrong_code"), "a code counts once, for one vote"

    status, answer = await vote(paying, approval, "erin", code=codes["erin"].code())
    assert status == 200 and answer["state"] == "approved"
    assert await paying.until(request_id, "succeeded") == "succeeded"
    votes = {v["voter"]: (v["stage"], v["assurance"]) for v in answer["votes"]}
    assert votes == {"alice": ("owner", "basic"), "bob": ("security", "strong"), "erin": ("security", "strong")}
    assert sum(call["path"] == "/things/pay" for call in paying.downstream.calls) == 1


async def test_an_agent_s_call_goes_on_with_what_an_approver_made_of_it(paying: World) -> None:
    await declare(paying, GENEROUS)
    async with paying.agent() as agent:
        call = asyncio.create_task(
            agent.call("pay", {"account": "A-1", "cents": 900, "note": "x"}, env="prod", session_id="run-1", wait_s=30)
        )
        async with asyncio.timeout(15):
            while not (waiting := await mine(paying, "alice")):
                await asyncio.sleep(0.05)
        approval = await paying.approval_of(waiting[0])
        assert (await vote(paying, approval, "alice", changes={"cents": 1000}))[0] == 422, "only narrower"
        status, answer = await vote(paying, approval, "alice", changes={"cents": 400, "note": None}, comment="less")
        assert status == 200 and answer["state"] == "amended", answer
        outcome = await call
        first = await agent.get(waiting[0])
        found = await agent.actions(session_id="run-1")
    assert outcome.state == "succeeded" and outcome.request_id == answer["amended_as"] != waiting[0]
    assert first.state == "denied" and first.superseded_by == outcome.request_id
    assert {each.request_id for each in found} == {waiting[0], outcome.request_id}
    paid = [json.loads(call["body"]) for call in paying.downstream.calls if call["path"] == "/things/pay"]
    assert paid == [{"account": "A-1", "cents": 400}]


@pytest.mark.parametrize("over", ["nats", "http"])
async def test_a_held_agent_hears_whom_it_waits_for_and_who_decided_with_which_words(paying: World, over: str) -> None:
    await declare(paying, TWO)
    heard: list[Any] = []
    async with paying.agent(over=over) as agent:
        asked = await agent.submit("pay", {"account": "A-1", "cents": 900}, env="prod")
        await paying.until(asked.request_id, "held")
        waiting = asyncio.create_task(agent.wait(asked.request_id, 60, on_change=heard.append))

        async def until(who: str) -> None:
            async with asyncio.timeout(30):
                while not any((said := progress_of(each)) and who in said.waits_for[0] for each in heard):
                    await asyncio.sleep(0.05)

        await until("group:ops")
        approval = await paying.approval_of(asked.request_id)
        await vote(paying, approval, "alice", comment="fine by us")
        await until("group:security")
        await vote(paying, approval, "bob", "reject", comment="the account is closed")
        outcome = await waiting
    assert outcome.state == "denied" and outcome.reason is not None and "the account is closed" in outcome.reason
    last = [said for each in heard if (said := progress_of(each))][-1]
    assert last.voters == ("alice",)


async def test_alike_actions_are_approved_ahead_as_often_as_was_said_until_it_is_revoked(paying: World) -> None:
    await declare(paying, GENEROUS)
    offer = {"for_s": 600, "max_uses": 2, "resource": "accounts/*"}
    first = await held(paying)
    status, answer = await vote(paying, first, "alice", standing={"for_s": 7200, "max_uses": 2})
    assert status == 422 and "3600" in answer["detail"], "beyond what the rule allows"
    assert (await vote(paying, first, "alice", standing=offer))[1]["state"] == "approved"
    (standing,) = (await paying.ok("GET", f"{APPROVALS}/standing", as_="bob"))["items"]
    assert (standing["resource"], standing["max_uses"], standing["granted_by"]) == ("accounts/*", 2, ["alice"])

    ahead = await paying.submit("pay", {"account": "A-7", "cents": 5}, env="prod", wait=30)
    assert ahead["state"] == "succeeded"
    (standing,) = (await paying.ok("GET", f"{APPROVALS}/standing"))["items"]
    assert standing["used"] == 1
    path = f"{APPROVALS}/standing/{standing['standing_id']}?reason=enough"
    assert (await paying.ok("DELETE", path, as_="bob"))["revoked_by"] == "bob"
    assert (await paying.ok("GET", f"{APPROVALS}/standing"))["items"] == []
    await held(paying, account="A-8")
    assert len((await paying.ok("GET", f"{APPROVALS}/standing?in_force=false"))["items"]) == 1


async def test_without_a_pattern_exactly_this_resource_is_allowed_ahead(paying: World) -> None:
    await declare(paying, GENEROUS)
    await vote(paying, await held(paying), "alice", standing={"for_s": 600, "max_uses": 5})
    assert (await paying.submit("pay", {"account": "A-1", "cents": 5}, env="prod", wait=30))["state"] == "succeeded"
    await held(paying, account="A-2")
    starred = await held(paying, account="A-*")
    status, answer = await vote(paying, starred, "alice", standing={"for_s": 600, "max_uses": 5})
    assert status == 422 and "accounts/A-*" in answer["detail"]


async def test_several_are_decided_in_one_step_each_by_its_own_vote(paying: World) -> None:
    await declare(paying, GENEROUS)
    first, second, third = [await held(paying, account=f"A-{n}") for n in range(3)]
    items = [
        {"approval_id": first["approval_id"], "digest": first["action"]["digest"]},
        {"approval_id": second["approval_id"], "digest": first["action"]["digest"]},
        {"approval_id": third["approval_id"], "digest": third["action"]["digest"]},
    ]
    body = {"vote": "reject", "comment": "not today", "items": items}
    tally = (await paying.ok("POST", f"{APPROVALS}/votes", body, as_="alice"))["items"]
    assert [each["state"] or problem(each["problem"]) for each in tally] == ["rejected", "digest_mismatch", "rejected"]
    assert await paying.until(first["action"]["request_id"], "denied") == "denied"
    assert (await paying.approval_of(second["action"]["request_id"]))["state"] == "pending"
    kinds = [entry["kind"] for entry in await paying.trail(third["action"]["request_id"])]
    assert "approvals.voted" in kinds
    async with asyncio.timeout(10):  # a refused vote is on record too
        while True:
            query = f"request_id={second['action']['request_id']}&kind=approvals.vote_refused"
            if (await paying.ok("GET", f"/api/v1/audit/timeline?{query}"))["items"]:
                break
            await asyncio.sleep(0.05)


async def test_lists_are_filtered_and_what_happens_is_told_live(paying: World) -> None:
    await declare(paying, GENEROUS)
    headers = {"Authorization": f"Bearer {paying.tokens['bob']}"}
    async with paying.http.get(f"{paying.url}{APPROVALS}/events", headers=headers) as stream:
        approval = await held(paying)
        for query, count in (
            ("tool=pay", 1),
            ("tool=read_thing", 0),
            ("env=prod", 1),
            ("env=dev", 0),
            ("risk=high", 1),
        ):
            assert len((await paying.ok("GET", f"{APPROVALS}?{query}"))["items"]) == count, query
        await vote(paying, approval, "alice", "reject")
        kinds: list[str] = []
        async with asyncio.timeout(15):
            while "resolved" not in kinds:
                line = await stream.content.readline()
                if line.startswith(b"data: "):
                    kinds.append(json.loads(line[6:])["kind"])
    assert kinds == ["requested", "voted", "resolved"]


async def test_huge_arguments_hide_no_approval(paying: World) -> None:
    """What one answer on the bus cannot carry comes in several pages: an agent cannot make the list fail."""
    await declare(paying, GENEROUS)
    asked = [
        await paying.submit("pay", {"account": f"A-{n}", "cents": 1, "note": "x" * 100_000}, env="prod", wait=0)
        for n in range(12)
    ]
    wanted = {each["request_id"] for each in asked}
    for request_id in wanted:
        await paying.until(request_id, "held")
    found: list[str] = []
    after = ""
    async with asyncio.timeout(20):
        while len(found) < len(wanted):
            page = await paying.ok("GET", f"{APPROVALS}?state=pending&limit=200{after}", as_="alice")
            assert page["items"]
            found += [item["action"]["request_id"] for item in page["items"]]
            after = f"&after={page.get('next')}"
    assert set(found) == wanted and len(found) == len(wanted) and page.get("next") is None
