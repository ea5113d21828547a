"""From an approval's events to messages in Slack, on real servers: posted once, kept up to date, whatever happens."""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import timedelta
from typing import Any

from countersign_chassis import Failpoints
from countersign_contracts.actions import ActionCancelled, ActionExecuted, Execution
from countersign_contracts.approval_commands import CastVote, StageView
from countersign_contracts.approval_rules import Stage
from countersign_contracts.approvals import (
    ApprovalAdvanced,
    ApprovalEscalated,
    ApprovalOverdue,
    ApprovalReminded,
    ApprovalVoteRefused,
    AskedBy,
)
from countersign_contracts.model import now
from countersign_harness.slack import TEAM
from countersign_slack.rendering import APPROVE
from countersign_slack.store import Store

from .conftest import CHANNEL, SECURITY, held

OPEN = StageView(
    name="decision", approvers=("anyone",), people=("alice", "bob"), quorum=1, assurance="basic", state="open"
)


def executed(event: Any, outcome: Any = "succeeded") -> ActionExecuted:
    execution = Execution(
        execution_id="exe_1", outcome=outcome, attempts=1, fence=1, status_code=200, finished_at=now()
    )
    return ActionExecuted(action=event.action.ref(), execution=execution)


async def test_a_held_action_is_asked_about_and_the_message_follows_the_events(office: Any) -> None:
    """Through the real approvals service; whichever channel decides."""
    await office.person("bob", None)
    await office.stack.service("approvals")
    await office.service()
    event = await office.hold()
    await office.slack.until(lambda: office.slack.main(CHANNEL))
    (message,) = office.slack.main(CHANNEL)
    assert message["text"].endswith("Approval needed: write_thing in prod, asked by worker-1")
    for shown in ("closed", "person:dana", "high risk needs approval", "profile:worker", event.action.digest, "carol"):
        assert shown in json.dumps(message, ensure_ascii=False), shown
    gateway, executor = await office.stack.bus("gateway"), await office.stack.bus("executor")
    vote = {"approval_id": event.approval_id, "voter": "person:bob", "vote": "approve", "digest": event.action.digest}
    await gateway.ask(CastVote(**vote, channel="cli", comment="fine <!channel>"))
    await office.slack.until(lambda: "Approved" in office.slack.main(CHANNEL)[0]["text"])
    assert "fine &lt;!channel&gt;" in json.dumps(office.slack.main(CHANNEL)[0])
    assert [b for b in message["blocks"] if b["type"] == "actions"] == []
    await executor.publish(executed(event))
    await office.slack.until(lambda: len(office.slack.thread(message)) == 2)
    approved, ended = office.slack.thread(message)
    assert "Approved by `bob`: `fine" in approved and "<!channel>" not in approved
    assert ended == "Executed: *succeeded*, status 200"
    await office.slack.until(lambda: "*succeeded*" in json.dumps(office.slack.main(CHANNEL)[0]))
    assert office.slack.calls["chat.postMessage"] == 3 and len(office.slack.main(CHANNEL)) == 1


async def test_the_thread_tells_of_stages_reminders_escalations_and_the_deadline_and_calls_whom_it_waits_for(
    office: Any,
) -> None:
    desk = await office.desk()
    await office.person("alice", "U0ALICE")
    await office.person("bob", None)
    await office.person("mallory", "U0MALLORY")
    await office.service(slack_team=TEAM)
    event = held()
    view = await desk.ask(event, stages=(OPEN,))
    await office.slack.until(lambda: office.slack.main(CHANNEL))
    at = now()
    about = {"approval_id": view.approval_id, "action": view.action.ref()}
    await desk.say(view, ApprovalReminded(**about, step=1, to=("anyone",), reminded_at=at))
    escalated = view.model_copy(update={"escalated_to": ("group:security",)})
    await desk.say(escalated, ApprovalEscalated(**about, step=1, to=("group:security",), escalated_at=at))
    await desk.say(escalated, ApprovalAdvanced(**about, stage="owner", at=at))
    overdue = escalated.model_copy(update={"overdue": True})
    await desk.say(overdue, ApprovalOverdue(**about, deadline=view.deadline, at=at))
    message = office.slack.main(CHANNEL)[0]
    await office.slack.until(lambda: len(office.slack.thread(message)) == 4)
    reminded, asked, advanced, late = office.slack.thread(message)
    assert "still waits" in reminded and "<@U0ALICE>" in reminded and "MALLORY" not in reminded
    assert "Escalated to `group:security`" in asked and "`owner` is done" in advanced and "deadline has passed" in late
    await office.slack.until(lambda: "Overdue" in office.slack.main(CHANNEL)[0]["text"])
    # who is asked only now is asked where they are
    await office.slack.until(lambda: len(office.slack.main(SECURITY)) == 1)


async def test_it_is_asked_in_the_channels_of_the_owner_s_team_and_of_the_groups_that_are_asked(office: Any) -> None:
    desk = await office.desk()
    await office.service()
    stages = (Stage(name="owner", approvers=("owner:team",)), Stage(name="sec", approvers=("group:security",)))
    await desk.ask(held(owner_team="payments"), asked_by=AskedBy(stages=stages))
    await office.slack.until(lambda: office.slack.main(SECURITY))
    await desk.ask(held(owner_team="nobody's"))
    await office.slack.until(lambda: office.slack.main(CHANNEL))
    assert (len(office.slack.main(CHANNEL)), len(office.slack.main(SECURITY))) == (1, 1)


async def test_a_message_told_twice_and_by_two_replicas_is_one_message(office: Any) -> None:
    desk = await office.desk()
    await office.service(instance="slack-1")
    await office.service(instance="slack-2")
    events = [held() for _ in range(12)]
    await asyncio.gather(*(desk.ask(event) for event in events))
    await office.slack.until(lambda: len(office.slack.main(CHANNEL)) == 12)
    for event in events:
        view = desk.views[event.approval_id]
        sealed = desk.bus.seal(ApprovalReminded(approval_id=view.approval_id, action=view.action.ref(), step=1,
                                                to=("anyone",), reminded_at=now()))  # fmt: skip
        subject = f"approvals.reminded.{view.approval_id}"
        for attempt in ("", "again"):
            await desk.bus.publish_sealed([(subject, "APPROVALS", sealed)], attempt=attempt)
    await asyncio.gather(*(desk.end(event.approval_id, "expired") for event in events))
    await office.slack.until(lambda: all("Expired" in m["text"] for m in office.slack.main(CHANNEL)))
    await office.slack.until(lambda: all(len(office.slack.thread(m)) == 2 for m in office.slack.main(CHANNEL)))
    assert office.slack.calls["chat.postMessage"] == 12 + 24
    # an event that changes nothing of what is shown makes no call
    updates = office.slack.calls["chat.update"]
    view = desk.views[events[0].approval_id]
    await desk.say(view, ApprovalAdvanced(approval_id=view.approval_id, action=view.action.ref(), stage="s", at=now()))
    await office.slack.until(lambda: office.slack.calls["chat.postMessage"] == 37)
    assert office.slack.calls["chat.update"] == updates


async def test_while_slack_is_away_nothing_else_waits_and_what_is_pending_is_posted_when_it_returns(
    office: Any,
) -> None:
    desk = await office.desk()
    service = await office.service()
    await office.slack.until(lambda: office.slack.connections)
    await office.slack.stop()
    events = [held() for _ in range(5)]
    for event in events:
        await desk.ask(event)
    await handled(office, "slack-approvals")
    await desk.end(events[0].approval_id, "cancelled")
    await handled(office, "slack-approvals")
    assert service.unready() == [], "the others need not wait for Slack"
    await office.slack.start()
    await office.slack.until(lambda: len(office.slack.main(CHANNEL)) == 4)
    shown = {message["text"] for message in office.slack.main(CHANNEL)}
    assert all("Approval needed" in text for text in shown), "of what ended meanwhile nobody is asked"
    await desk.end(events[1].approval_id, "expired")
    await office.slack.until(lambda: any("Expired" in m["text"] for m in office.slack.main(CHANNEL)))
    assert office.slack.calls["chat.postMessage"] >= 4 and len(office.slack.main(CHANNEL)) == 4
    # over Socket Mode too it is there again
    await office.slack.until(lambda: office.slack.connections)


async def test_a_service_that_starts_while_slack_is_away_works_once_it_is_there(office: Any) -> None:
    desk = await office.desk()
    await office.slack.stop()
    service = await office.service()
    assert service.unready() == []
    await desk.ask(held())
    await handled(office, "slack-approvals")
    await office.slack.start()
    await office.slack.until(lambda: office.slack.connections and office.slack.main(CHANNEL))


async def test_slack_s_rate_limit_holds_up_one_channel_for_as_long_as_it_says(office: Any) -> None:
    desk = await office.desk()
    office.slack.limits, office.slack.retry_after = {"chat.postMessage": 1}, "2"
    await office.service(instance="slack-1")
    await office.service(instance="slack-2")
    began = asyncio.get_running_loop().time()
    for _ in range(3):
        await desk.ask(held())
    await office.slack.until(lambda: len(office.slack.main(CHANNEL)) == 3)
    assert asyncio.get_running_loop().time() - began >= 1.9, "no replica asked before the time that Slack gave"
    assert office.slack.refused == {"ratelimited": 1} and office.slack.calls["chat.postMessage"] == 3


async def test_messages_in_one_channel_keep_their_distance_whichever_replica_sends_them(office: Any) -> None:
    desk = await office.desk()
    await office.service(instance="slack-1", slack_pace_s=0.4)
    await office.service(instance="slack-2", slack_pace_s=0.4)
    for _ in range(4):
        await desk.ask(held())
    await office.slack.until(lambda: len(office.slack.main(CHANNEL)) == 4)
    times = office.slack.posted_at[CHANNEL]
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) > 0.35


async def test_a_replica_that_dies_between_its_rows_and_its_ack_is_followed_by_one_message(office: Any) -> None:
    desk = await office.desk()
    died = asyncio.Event()

    async def die() -> None:
        died.set()
        raise RuntimeError("killed here")

    dying = await office.service(failpoints=Failpoints({"slack.after_commit_before_ack": die}))
    await desk.ask(held())
    await asyncio.wait_for(died.wait(), 20)
    await dying.stop()
    await office.service()
    await office.slack.until(lambda: office.slack.main(CHANNEL))
    await handled(office, "slack-approvals")
    assert len(office.slack.main(CHANNEL)) == 1


async def test_a_replica_that_dies_before_it_knows_its_message_leaves_a_second_one_that_goes_when_it_is_pressed(
    office: Any,
) -> None:
    desk = await office.desk()
    await office.person("alice", "U0ALICE")
    deaths = iter([True])

    async def die() -> None:
        if next(deaths, False):
            raise RuntimeError("killed here")

    await office.service(failpoints=Failpoints({"slack.after_post_before_commit": die}))
    await desk.ask(held())
    await office.slack.until(lambda: len(office.slack.main(CHANNEL)) == 2)
    first, second = office.slack.main(CHANNEL)
    await office.slack.send(office.slack.press(second, APPROVE, "U0ALICE"))
    await office.slack.until(lambda: len(office.slack.modals) == 1)
    await office.slack.send(office.slack.press(first, APPROVE, "U0ALICE"))
    await office.slack.until(lambda: len(office.slack.modals) == 2)
    await office.slack.until(lambda: len(office.slack.main(CHANNEL)) == 1)
    assert office.slack.main(CHANNEL) == [second]


async def test_what_is_on_its_way_to_slack_arrives_once_when_the_service_stops(office: Any) -> None:
    desk = await office.desk()
    began, go_on = asyncio.Event(), asyncio.Event()

    async def linger() -> None:
        began.set()
        await go_on.wait()

    stopping = await office.service(failpoints=Failpoints({"slack.after_post_before_commit": linger}))
    await desk.ask(held())
    await asyncio.wait_for(began.wait(), 20)
    stop = asyncio.create_task(stopping.stop())
    asyncio.get_running_loop().call_later(0.3, go_on.set)
    await stop
    await office.service()
    view = await desk.ask(held())
    await office.slack.until(lambda: view.approval_id in str(office.slack.main(CHANNEL)))
    assert len(office.slack.main(CHANNEL)) == 2


async def test_an_older_look_never_replaces_a_newer_one(office: Any) -> None:
    """Two replicas look at an approval; who looked first is the last to write."""
    store = Store((await office.service()).db)
    at = now()
    first = await store.first_look("apr_1", "r1", at)
    second = await store.look("apr_1", at)
    assert second is not None and second.number > first.number
    more: dict[str, Any] = {"pending": False, "channels": ("C0NOBODY",), "notes": (), "at": at}
    await store.show("apr_1", second, '{"text": "newer"}', "b", **(more | {"pending": True}))
    await office.slack.until(lambda: office.slack.main("C0NOBODY"))
    async with asyncio.timeout(10):  # Slack has it a moment before the row says so
        while await store.next_in("C0NOBODY") is not None:
            await asyncio.sleep(0.02)
    await store.show("apr_1", first, '{"text": "older"}', "a", **more)
    assert await store.next_in("C0NOBODY") is None
    third = await store.look("apr_1", at)
    assert third is not None
    await store.show("apr_1", third, '{"text": "newest"}', "c", **more)
    await office.slack.until(lambda: [m["text"] for m in office.slack.main("C0NOBODY")] == ["newest"])


async def test_what_ended_long_ago_is_forgotten_and_what_is_pending_is_not(office: Any) -> None:
    store = Store((await office.service()).db)
    at = now()
    for name, pending in (("apr_1", True), ("apr_2", False)):
        look = await store.first_look(name, name, at)
        more: dict[str, Any] = {"channels": ("C0NOBODY",), "notes": (), "at": at}
        await store.show(name, look, '{"text": "x"}', "a", pending=True, **more)
        look = await store.first_look(name, name, at)
        await store.show(name, look, '{"text": "y"}', "b", pending=pending, **more)
    await store.forget(at)
    assert len(await store.approvals_of(["apr_1", "apr_2"])) == 2
    await store.forget(at + timedelta(seconds=1))
    assert await store.approvals_of(["apr_1", "apr_2"]) == {"apr_1": "apr_1"}


async def test_a_deleted_message_is_posted_anew_while_it_is_pending(office: Any) -> None:
    desk = await office.desk()
    await office.service()
    event = held()
    view = await desk.ask(event)
    await office.slack.until(lambda: office.slack.main(CHANNEL))
    office.slack.messages.clear()
    late = view.model_copy(update={"overdue": True})
    about = {"approval_id": view.approval_id, "action": view.action.ref()}
    await desk.say(late, ApprovalOverdue(**about, deadline=view.deadline, at=now()))
    await office.slack.until(lambda: office.slack.main(CHANNEL))
    assert "Overdue" in office.slack.main(CHANNEL)[0]["text"]


async def test_what_slack_does_not_take_is_given_up_and_holds_up_nothing(office: Any) -> None:
    desk = await office.desk()
    office.slack.errors = {"chat.postMessage": "invalid_blocks"}
    service = await office.service()
    await desk.ask(held())
    async with asyncio.timeout(20):
        while service.metrics.registry.get_sample_value("countersign_slack_given_up_total") != 1:
            await asyncio.sleep(0.02)
    office.slack.errors = {}
    await desk.ask(held())
    await office.slack.until(lambda: len(office.slack.main(CHANNEL)) == 1)


async def test_a_token_that_was_taken_back_is_said_on_the_health_page_and_mended_without_a_restart(
    office: Any,
) -> None:
    desk = await office.desk()
    office.slack.errors = {"chat.postMessage": "token_revoked"}
    service = await office.service()
    await desk.ask(held())
    async with asyncio.timeout(20):
        while "token_revoked" not in service.about()["slack"]:
            await asyncio.sleep(0.02)
    office.slack.errors = {}
    await office.slack.until(lambda: office.slack.main(CHANNEL))
    async with asyncio.timeout(20):
        while service.about()["slack"] != "answers":
            await asyncio.sleep(0.02)


async def test_a_refused_vote_is_told_to_nobody_else_and_a_cancelled_action_says_who_cancelled_it(office: Any) -> None:
    desk = await office.desk()
    await office.service()
    event = held()
    view = await desk.ask(event)
    await office.slack.until(lambda: office.slack.main(CHANNEL))
    about = {"approval_id": view.approval_id, "action": view.action.ref()}
    refused = ApprovalVoteRefused(
        **about, refusal="r1", channel="slack", identity="T1/U1", code="forbidden", reason="own", refused_at=now()
    )
    await desk.say(view, refused)
    gateway = await office.stack.bus("gateway")
    await desk.end(event.approval_id, "cancelled")
    await gateway.publish(
        ActionCancelled(action=event.action.ref(), by="agent:worker-1", reason="no", cancelled_at=now())
    )
    message = office.slack.main(CHANNEL)[0]
    await office.slack.until(lambda: office.slack.thread(message))
    assert office.slack.thread(message) == ["*Cancelled* by `agent:worker-1`: `no`"]


async def handled(office: Any, consumer: str) -> None:
    """Every message was acknowledged."""
    client = await office.stack.client("bootstrap-core")
    stream = "APPROVALS" if consumer == "slack-approvals" else "ACTIONS"
    async with asyncio.timeout(20):
        while True:
            info = json.loads((await client.request(f"$JS.API.CONSUMER.INFO.{stream}.{consumer}", b"", timeout=5)).data)
            if not info["num_pending"] and not info["num_ack_pending"]:
                return
            await asyncio.sleep(0.02)
