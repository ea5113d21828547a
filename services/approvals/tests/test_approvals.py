"""Approvals on real servers: asked once, voted once, ended once, and their events never lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest

from countersign_chassis import Failpoints
from countersign_contracts.actions import ActionCancelled
from countersign_contracts.approval_commands import ApprovalView, GetApproval, ListApprovals
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import new_id
from countersign_contracts.model import now

from .conftest import Scene, found, held, vote


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
            kind = answer["message"]["subject"].split(".")[1]
            if answer["message"]["subject"].endswith(approval_id) and kind != "vote_refused":
                kinds.append(kind)
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


async def test_of_many_votes_at_once_one_decides_and_each_person_counts_once(scene: Scene) -> None:
    stack, policy, gateway = scene.stack, scene.policy, scene.gateway
    await scene.people(*(f"person-{n}" for n in range(12)))
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


async def test_a_deadline_ends_it_and_two_replicas_end_it_once(scene: Scene) -> None:
    await scene.start()
    stack, policy, gateway = scene.stack, scene.policy, scene.gateway
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


async def test_a_vote_counts_even_if_the_service_dies_before_it_can_say_so(offstage: Scene) -> None:
    """Promise: what was committed is published, by whoever lives next."""

    async def die() -> None:
        raise RuntimeError("killed here")

    stack, policy, gateway = offstage.stack, offstage.policy, offstage.gateway
    dying = await stack.service("approvals", Failpoints({"approvals.after_vote_before_publish": die}))
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


async def test_who_asks_once_more_is_told_again_how_it_ended(scene: Scene) -> None:
    """Found by faults: policy died with the resolution in hand, and the action stood still until its redelivery."""
    stack, policy, gateway = scene.stack, scene.policy, scene.gateway
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


async def test_names_that_the_database_cannot_hold_ask_nobody_and_stop_nothing(scene: Scene) -> None:
    event = await scene.hold(held(owner_team="a\0b", owner_oncall="c\0d", note="e\0f"))
    view = await scene.gateway.ask(vote(event, comment="g\0h"))
    assert view.state == "approved" and view.votes[0].comment == "g\0h"
