"""Approved ahead, on real servers: within bounds, counted exactly, revoked at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from countersign_chassis import Failpoints
from countersign_contracts.approval_commands import ListStandings, RevokeStanding
from countersign_contracts.approvals import Standing, StandingOffer
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now

from .conftest import Scene, held, vote

RULE = """
kind: approval_rule
name: r
stages: [{name: one, approvers: [anyone], quorum: 2}]
standing: {max_uses: 10, max_s: 3600}
"""


def offer(uses: int = 3, **fields: Any) -> StandingOffer:
    given = {"resource": "things/*", "until": now() + timedelta(minutes=30), "max_uses": uses}
    return StandingOffer(**(given | fields))


async def granted(scene: Scene, uses: int = 3) -> Standing:
    await scene.apply(RULE)
    event = await scene.hold(held(resource="things/1", n=1))
    await scene.gateway.ask(vote(event, "alice", standing=offer(uses)))
    await scene.gateway.ask(vote(event, "bob", standing=offer(uses + 2)))
    [standing] = (await scene.gateway.ask(ListStandings())).items
    assert standing.max_uses == uses and standing.granted_by == ("alice", "bob")
    result: Standing = standing
    return result


async def test_an_alike_action_is_approved_by_it_with_the_votes_of_who_granted_it(scene: Scene) -> None:
    standing = await granted(scene)
    later = await scene.hold(held(resource="things/2", n=2))
    view = await scene.known(later, lambda v: v.state == "approved")
    assert [(v.voter, v.channel, v.standing_id) for v in view.votes] == [
        ("alice", "standing", standing.standing_id),
        ("bob", "standing", standing.standing_id),
    ]
    assert {v.digest for v in view.votes} == {later.action.digest}
    events = await scene.told("resolved", about=later.approval_id)
    assert [e.spec.name for e in events] == ["requested", "voted", "voted", "resolved"]
    [used] = (await scene.gateway.ask(ListStandings())).items
    assert used.used == 1
    assert "standing_granted" in [e.spec.name for e in await scene.told("resolved", 2)]


async def test_what_is_not_alike_waits_for_people(scene: Scene) -> None:
    await granted(scene)
    for other in (
        held(resource="users/1", n=2),
        held(n=2),
        held(resource="things/2", tool="other"),
        held(resource="things/2", env="dev"),
        held(resource="things/2", risk="critical"),
        held(resource="things/2", owner_oncall="bob"),
        held(resource="things/2", principal_chain=("person:alice",)),
    ):
        await scene.hold(other)
        await scene.hold(held(resource="elsewhere", n=3))  # handled after the other
        assert (await scene.known(other)).state == "pending"


async def test_it_counts_exactly_however_many_come_at_once(scene: Scene) -> None:
    await scene.start()
    await granted(scene, uses=5)
    later = [held(resource=f"things/{n}", n=n) for n in range(12)]
    await asyncio.gather(*(scene.policy.publish(event) for event in later))
    async with asyncio.timeout(20):
        while (await scene.gateway.ask(ListStandings(in_force=False))).items[0].used < 5:
            await asyncio.sleep(0.05)
    views = [await scene.known(event) for event in later]
    last = await scene.hold(held(resource="elsewhere"))
    await scene.known(last)
    views = [await scene.known(event) for event in later]
    assert sum(view.state == "approved" for view in views) == 5
    assert (await scene.gateway.ask(ListStandings())).items == ()


async def test_whoever_approved_without_an_offer_is_told_that_it_is_too_late_for_one(scene: Scene) -> None:
    await scene.apply(RULE)
    event = await scene.hold(held(resource="things/1", n=1))
    await scene.gateway.ask(vote(event, "alice"))
    with pytest.raises(CountersignError, match="alice") as refused:
        await scene.gateway.ask(vote(event, "alice", standing=offer()))
    assert refused.value.code == "conflict"
    await scene.gateway.ask(vote(event, "bob", standing=offer()))
    assert (await scene.gateway.ask(ListStandings())).items == ()
    # the same offer again, a moment later, is no other one
    event = await scene.hold(held(resource="things/2", n=2))
    first = await scene.gateway.ask(vote(event, "alice", standing=offer()))
    assert await scene.gateway.ask(vote(event, "alice", standing=offer())) == first


async def test_once_it_is_revoked_nothing_more_is_approved_by_it(scene: Scene) -> None:
    standing = await granted(scene)
    order = RevokeStanding(standing_id=standing.standing_id, by="carol", reason="enough")
    revoked = await scene.gateway.ask(order)
    assert revoked.revoked_by == "carol" and await scene.gateway.ask(order) == revoked
    later = await scene.hold(held(resource="things/2", n=2))
    await scene.hold(held(resource="elsewhere"))
    assert (await scene.known(later)).state == "pending"
    [event] = [e for e in await scene.told("standing_revoked") if e.spec.name == "standing_revoked"]
    assert event.reason == "enough"
    try:
        await scene.gateway.ask(order.model_copy(update={"standing_id": "std_nothing"}))
    except CountersignError as error:
        assert error.code == "not_found"
    else:
        raise AssertionError("revoked what there is not")


async def test_it_is_no_use_where_the_rule_says_so_no_more_or_asks_others(scene: Scene) -> None:
    await granted(scene)
    for changed in (
        RULE.replace("standing: {max_uses: 10, max_s: 3600}\n", ""),
        RULE.replace("quorum: 2", "quorum: 3"),
        RULE.replace("[anyone]", '["group:security"]'),
        RULE.replace("quorum: 2", "quorum: 2, assurance: strong"),
    ):
        await scene.apply(changed)
        later = await scene.hold(held(resource="things/2", n=2))
        await scene.hold(held(resource="elsewhere"))
        assert (await scene.known(later)).state == "pending", changed


async def test_who_was_removed_a_moment_ago_allows_nothing(scene: Scene) -> None:
    await granted(scene)
    await scene.person("bob", status="removed", quietly=True)
    later = await scene.hold(held(resource="things/2", n=2))
    await scene.hold(held(resource="elsewhere"))
    assert (await scene.known(later)).state == "pending"


async def test_nothing_is_granted_unless_every_approving_vote_says_so(scene: Scene) -> None:
    await scene.apply(RULE)
    event = await scene.hold(held(resource="things/1", n=1))
    await scene.gateway.ask(vote(event, "alice", standing=offer()))
    await scene.gateway.ask(vote(event, "bob"))
    rejected = await scene.hold(held(resource="things/1", n=2))
    await scene.refused(vote(rejected, "alice", "reject", standing=offer()), "invalid")
    refused = await scene.refused(vote(rejected, "alice", standing=offer(11)), "invalid")
    assert "at most 10 uses" in refused.detail
    assert (await scene.gateway.ask(ListStandings(in_force=False))).items == ()


async def test_a_use_is_told_after_a_crash_and_counted_once(offstage: Scene) -> None:
    async def die() -> None:
        raise RuntimeError("killed here")

    dying = await offstage.start(Failpoints({"approvals.after_standing_before_publish": die}))
    await granted(offstage)
    later = await offstage.hold(held(resource="things/2", n=2))
    await offstage.known(later, lambda v: v.state == "approved")
    await dying.stop()
    await offstage.start(leftovers_poll_s=0.1)
    events = await offstage.told("resolved", about=later.approval_id)
    assert [e.spec.name for e in events] == ["requested", "voted", "voted", "resolved"]
    assert (await offstage.gateway.ask(ListStandings())).items[0].used == 1
