"""Slack on the whole product: two replicas, real rules, real people, real executions, a fake Slack on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from countersign_harness.payments import PAY, RULE, TOOL
from countersign_harness.slack_world import CHANNEL, SECURITY, SlackWorld
from countersign_harness.world import World
from countersign_slack.rendering import APPROVE, CHANGE, REJECT

pytestmark = pytest.mark.timeout(240)

WORKER = """
kind: profile
name: worker
environments: [dev, prod]
tools: [pay]
"""


@pytest_asyncio.fixture
async def office(world: World) -> AsyncIterator[SlackWorld]:
    office = SlackWorld(world)
    try:
        await office.start(remind_s=2)
        yield office
    finally:
        await office.stop()


async def hold(office: SlackWorld) -> Any:
    answer = await office.world.submit("write_thing", {"thing_id": 1, "status": "x"}, env="prod", wait=0)
    return await office.world.approval_of(answer["request_id"])


async def kinds(office: SlackWorld, request_id: str, kind: str, count: int = 1) -> list[Any]:
    """The ledger's entries of a kind about an action."""
    async with asyncio.timeout(20):
        while True:
            path = f"/api/v1/audit/timeline?request_id={request_id}&kind={kind}"
            found: list[Any] = (await office.world.ok("GET", path))["items"]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


async def test_two_stages_over_two_channels_with_refusals_and_an_execution(office: SlackWorld) -> None:
    slack, world = office.slack, office.world
    approval = await hold(office)
    name, request_id = approval["approval_id"], approval["action"]["request_id"]
    message = await office.message(SECURITY, name)
    assert "Stage `owner`: 0 of 1" in str(message) and slack.main(CHANNEL) == []
    assert "write_thing" in await office.type("pending", "U0ALICE")
    assert await office.type("pending", "U0BOB") == "Nothing waits for you."

    # whom the open stage does not ask, who is linked to nobody, and who decided before
    await office.decide(message, APPROVE, "bob", "too early")
    await slack.until(lambda: len(slack.ephemeral) == 1)
    assert "stage `owner` is open" in slack.ephemeral[0]["text"] and slack.ephemeral[0]["user"] == "U0BOB"
    await office.press(message, APPROVE, "mallory")
    await slack.until(lambda: len(slack.ephemeral) == 2)
    assert "link-slack" in slack.ephemeral[1]["text"]
    await office.decide(message, APPROVE, "alice", "ours, and fine")
    advanced = await slack.until(lambda: [line for line in slack.thread(message) if "Stage `owner` is done" in line])
    assert "<@U0BOB>" in advanced[0] and "<@U0DAVE>" in advanced[0] and "ALICE" not in advanced[0]

    # a reminder, one vote in Slack and one over HTTP
    await slack.until(lambda: any("still waits" in line for line in slack.thread(message)))
    await office.decide(message, APPROVE, "bob", None)
    await slack.until(lambda: "Stage `security`: 1 of 2" in str(slack.main(SECURITY)))
    status, answer = await world.vote(approval, "approve", as_="dave")
    assert status == 200, answer
    assert await world.until(request_id, "succeeded") == "succeeded"
    await slack.until(lambda: "Executed: *succeeded*" in str(slack.main(SECURITY)))
    await slack.until(lambda: any("*succeeded*" in line for line in slack.thread(message)))
    assert [m["text"] for m in slack.main(SECURITY)] == [
        ":white_check_mark: Approved: write_thing in prod, asked by worker-1"
    ]
    votes = [entry["body"]["vote"] for entry in await kinds(office, request_id, "approvals.voted", 3)]
    assert [(vote["voter"], vote["channel"]) for vote in votes] == [
        ("alice", "slack"),
        ("bob", "slack"),
        ("dave", "http"),
    ]
    assert {vote["digest"] for vote in votes} == {approval["action"]["digest"]}
    (refused,) = await kinds(office, request_id, "approvals.vote_refused")
    assert refused["body"]["channel"] == "slack" and refused["body"]["code"] == "not_entitled"

    # pressed after the decision: refused by its owner, on record
    await office.press(message, APPROVE, "dave")
    await slack.until(lambda: len(slack.ephemeral) == 3)
    assert slack.ephemeral[2]["text"] == "It is approved already, and your vote stands."
    await office.press(message, REJECT, "dave")
    await slack.until(lambda: len(slack.ephemeral) == 4)
    assert "is approved already" in slack.ephemeral[3]["text"] and "Not counted" in slack.ephemeral[3]["text"]
    assert {e["body"]["code"] for e in await kinds(office, request_id, "approvals.vote_refused", 2)} == {
        "not_entitled",
        "conflict",
    }
    assert len(world.downstream.calls) == 1


async def test_what_is_narrowed_in_slack_runs_and_what_was_asked_for_does_not(office: SlackWorld) -> None:
    slack, world = office.slack, office.world
    texts = {"pay.yaml": TOOL, "worker.yaml": WORKER, "payments.yaml": RULE.replace("QUORUM", "1")}
    result = await world.apply(texts)
    assert result["errors"] == [], result
    first = (await world.submit("pay", PAY, env="prod", wait=0))["request_id"]
    message = await office.message(CHANNEL, (await world.approval_of(first))["approval_id"])
    await office.decide(message, CHANGE, "alice", "half of it", **{"change.amount": "50"})
    assert await world.until(first, "denied") == "denied"
    new = (await world.ok("GET", f"/api/v1/actions/{first}"))["superseded_by"]
    assert await world.until(new, "succeeded") == "succeeded"
    (call,) = world.downstream.calls
    assert call["body"] == '{"amount":50,"pin":"hunter2"}', "what nobody in Slack saw went along, sealed"
    shown = await slack.until(lambda: [m for m in slack.main(CHANNEL) if "Approved with changes" in m["text"]])
    assert "hunter2" not in str((shown, slack.modals, [slack.thread(m) for m in slack.main(CHANNEL)]))
    for request_id in (first, new):
        (voted,) = await kinds(office, request_id, "approvals.voted")
        vote = voted["body"]["vote"]
        assert (vote["voter"], vote["vote"], vote["channel"]) == ("alice", "approve", "slack")
        assert vote.get("changes") == ({"amount": 50} if request_id == first else None)


async def test_one_rejection_in_slack_ends_it_and_a_double_click_is_one_vote(office: SlackWorld) -> None:
    slack = office.slack
    approval = await hold(office)
    message = await office.message(SECURITY, approval["approval_id"])
    await office.press(message, REJECT, "bob")
    await slack.until(lambda: slack.modals)
    form = slack.submit(slack.modals[-1], "U0BOB", "no <!channel>")
    await asyncio.gather(slack.send(form, over=0), slack.send(form, over=1))
    assert await office.world.until(approval["action"]["request_id"], "denied") == "denied"
    await slack.until(lambda: any("Rejected by `bob`: `no &lt;!channel&gt;`" in line for line in slack.thread(message)))
    assert len(await kinds(office, approval["action"]["request_id"], "approvals.voted")) == 1
    assert office.world.downstream.calls == []


async def test_who_is_removed_decides_no_more_and_is_told(office: SlackWorld) -> None:
    slack, world = office.slack, office.world
    approval = await hold(office)
    message = await office.message(SECURITY, approval["approval_id"])
    await office.press(message, APPROVE, "alice")
    await slack.until(lambda: slack.modals)
    form = slack.submit(slack.modals[-1], "U0ALICE", None)
    await world.ok("DELETE", "/api/v1/people/alice")
    await slack.send(form)
    await slack.until(lambda: slack.ephemeral)
    assert "Not counted" in slack.ephemeral[0]["text"]
    assert (await world.ok("GET", f"/api/v1/approvals/{approval['approval_id']}"))["votes"] == []


async def test_a_stop_from_slack_holds_for_what_was_approved(office: SlackWorld) -> None:
    world = office.world
    await world.ok("POST", "/api/v1/people", {"name": "olga", "roles": ["operator"]})
    assert "linked to nobody" in await office.type("stop all now", "U0OLGA")
    issued = await world.ok("POST", "/api/v1/people", {"name": "olga", "roles": ["operator"]})
    world.tokens["olga"] = issued["token"]
    await office.link("olga")
    assert "Stopped `env:dev`" in await office.type("stop env:dev wrong prices", "U0OLGA")
    answer = await world.submit("read_thing", {"thing_id": 1}, env="dev")
    assert answer["state"] == "denied" and "wrong prices" in answer["reason"]
