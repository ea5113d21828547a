"""Approvals on real servers: asked once, voted once, ended once, and their events never lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest

from countersign_chassis import Bus, Failpoints
from countersign_contracts.actions import Action, ActionCancelled, ActionHeld, Decision, Reason
from countersign_contracts.approval_commands import ApprovalView, CastVote, GetApproval, ListApprovals
from countersign_contracts.canonical import action_digest
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import new_id, prefixed
from countersign_contracts.model import now


def held(deadline_s: int = 3600, **args: Any) -> ActionHeld:
    parts: dict[str, Any] = {"principal_chain": (), "env": "prod", "tool": "t", "tool_version": 1, "args": args}
    digest = action_digest(agent="worker-1", session=None, **parts)
    at = now()
    action = Action(request_id=new_id(), agent_id="worker-1", digest=digest, requested_at=at, **parts)
    decision = Decision(
        outcome="hold",
        reasons=(Reason(code="approval_required", message="high risk needs approval"),),
        policy_version="v",
        risk="high",
        decided_at=at,
    )
    return ActionHeld(
        action=action, decision=decision, approval_id=prefixed("apr"), owner_team="ops", deadline_s=deadline_s
    )


async def found(bus: Bus, approval_id: str, state: str, seconds: float = 10) -> ApprovalView:
    async with asyncio.timeout(seconds):
        while True:
            try:
                view: ApprovalView = await bus.ask(GetApproval(approval_id=approval_id))
                if view.state == state:
                    return view
            except CountersignError as error:
                assert error.code == "not_found"
            await asyncio.sleep(0.02)


def vote(event: ActionHeld, voter: str = "alice", kind: Any = "approve") -> CastVote:
    return CastVote(
        approval_id=event.approval_id,
        voter=f"person:{voter}",
        vote=kind,
        digest=event.action.digest,
        channel="cli",
        comment="ok",
    )


async def published(stack: Any, approval_id: str, seconds: float = 10) -> list[str]:
    """The kinds of events about an approval in stream APPROVALS, once it is resolved."""
    client = await stack.client("bootstrap-core")
    kinds: list[str] = []
    async with asyncio.timeout(seconds):
        seq = 0
        while not kinds or kinds[-1] != "resolved":
            query = orjson.dumps({"seq": seq + 1})
            answer = orjson.loads((await client.request("$JS.API.STREAM.MSG.GET.APPROVALS", query, timeout=2)).data)
            if "message" not in answer:
                await asyncio.sleep(0.02)
                continue
            seq += 1
            if answer["message"]["subject"].endswith(approval_id):
                kinds.append(answer["message"]["subject"].split(".")[1])
    return kinds


async def test_a_repeat_of_a_held_action_asks_once(stack: Any) -> None:
    service = await stack.service("approvals")
    policy, gateway = await stack.bus("policy"), await stack.bus("gateway")
    event = held(n=1)
    envelope = policy.seal(event)
    for attempt in ("", "1", "2"):
        await policy.publish_sealed([(event.nats_subject(), "ACTIONS", envelope)], attempt=attempt)
    view = await found(gateway, event.approval_id, "pending")
    assert view.action == event.action and view.deadline - view.requested_at == timedelta(hours=1)
    page = await gateway.ask(ListApprovals(state="pending"))
    assert [item.approval_id for item in page.items] == [event.approval_id]
    assert service.unready() == []


async def test_of_many_votes_at_once_one_decides_and_each_person_counts_once(stack: Any) -> None:
    await stack.service("approvals")
    policy, gateway = await stack.bus("policy"), await stack.bus("gateway")
    event = held(n=1)
    await policy.publish(event)
    await found(gateway, event.approval_id, "pending")
    answers = await asyncio.gather(
        *(gateway.ask(vote(event, f"person-{n}", "approve" if n % 2 else "reject")) for n in range(12)),
        return_exceptions=True,
    )
    counted = [a for a in answers if isinstance(a, ApprovalView)]
    refused = [a for a in answers if isinstance(a, CountersignError)]
    assert len(counted) == 1 and len(refused) == 11 and {e.code for e in refused} == {"conflict"}
    view: ApprovalView = await gateway.ask(GetApproval(approval_id=event.approval_id))
    assert len(view.votes) == 1 and view.state in ("approved", "rejected")
    # the one who decided may say the same again: nothing changes
    again = await gateway.ask(vote(event, view.votes[0].voter, view.votes[0].vote))
    assert again == view
    assert await published(stack, event.approval_id) == ["requested", "voted", "resolved"]


async def test_a_deadline_ends_it_and_two_replicas_end_it_once(stack: Any) -> None:
    await stack.service("approvals")
    await stack.service("approvals")
    policy, gateway = await stack.bus("policy"), await stack.bus("gateway")
    event = held(deadline_s=1)
    await policy.publish(event)
    view = await found(gateway, event.approval_id, "expired")
    assert view.resolved_at is not None
    assert timedelta(0) <= view.resolved_at - view.deadline < timedelta(seconds=1.5)
    assert await published(stack, event.approval_id) == ["requested", "resolved"]
    with pytest.raises(CountersignError, match="expired"):
        await gateway.ask(vote(event))


async def test_a_cancelled_action_asks_nobody_any_more(stack: Any) -> None:
    await stack.service("approvals")
    policy, gateway = await stack.bus("policy"), await stack.bus("gateway")
    event = held(n=1)
    await policy.publish(event)
    await found(gateway, event.approval_id, "pending")
    await gateway.publish(ActionCancelled(action=event.action.ref(), by="agent:worker-1", cancelled_at=now()))
    await found(gateway, event.approval_id, "cancelled")
    assert (await published(stack, event.approval_id))[-1] == "resolved"


async def test_a_vote_counts_even_if_the_service_dies_before_it_can_say_so(stack: Any) -> None:
    """Promise: what was committed is published, by whoever lives next."""

    async def die() -> None:
        raise RuntimeError("killed here")

    dying = await stack.service("approvals", Failpoints({"approvals.after_vote_before_publish": die}))
    policy, gateway = await stack.bus("policy"), await stack.bus("gateway")
    event = held(n=1)
    await policy.publish(event)
    await found(gateway, event.approval_id, "pending")
    with pytest.raises(CountersignError):
        await gateway.ask(vote(event))
    await dying.stop()
    await stack.service("approvals", leftovers_poll_s=0.1)
    assert await published(stack, event.approval_id) == ["requested", "voted", "resolved"]


async def test_pages_are_newest_first_and_follow_each_other(stack: Any) -> None:
    await stack.service("approvals")
    policy, gateway = await stack.bus("policy"), await stack.bus("gateway")
    events = [held(n=n) for n in range(5)]
    for event in events:
        await policy.publish(event)
        await found(gateway, event.approval_id, "pending")
    first = await gateway.ask(ListApprovals(limit=2))
    second = await gateway.ask(ListApprovals(limit=10, after=first.next))
    ids = [item.approval_id for item in (*first.items, *second.items)]
    assert ids == [event.approval_id for event in reversed(events)] and second.next is None


async def test_an_unknown_approval_is_not_found(stack: Any) -> None:
    await stack.service("approvals")
    gateway = await stack.bus("gateway")
    for name in ("apr_nothing", new_id()):
        with pytest.raises(CountersignError) as missing:
            await gateway.ask(GetApproval(approval_id=name))
        assert missing.value.code == "not_found"


async def test_who_asks_once_more_is_told_again_how_it_ended(stack: Any) -> None:
    """Found by faults: policy died with the resolution in hand, and the action stood still until its redelivery."""
    await stack.service("approvals")
    policy, gateway = await stack.bus("policy"), await stack.bus("gateway")
    event = held(n=1)
    await policy.publish(event)
    await found(gateway, event.approval_id, "pending")
    await gateway.ask(vote(event))
    assert await published(stack, event.approval_id) == ["requested", "voted", "resolved"]
    first = await last_resolved(stack, event.approval_id)
    await policy.publish_sealed([(event.nats_subject(), "ACTIONS", policy.seal(event))], attempt="1")
    async with asyncio.timeout(10):
        while (again := await last_resolved(stack, event.approval_id))["seq"] == first["seq"]:
            await asyncio.sleep(0.02)
    assert again["data"] == first["data"]


async def last_resolved(stack: Any, approval_id: str) -> Any:
    """The last message that tells how the approval ended."""
    client = await stack.client("bootstrap-core")
    query = orjson.dumps({"last_by_subj": f"approvals.resolved.{approval_id}"})
    return orjson.loads((await client.request("$JS.API.STREAM.MSG.GET.APPROVALS", query, timeout=2)).data)["message"]
