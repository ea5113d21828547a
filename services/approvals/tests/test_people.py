"""Who is removed, or no longer asked: their votes on pending approvals are void, what they allowed ahead is revoked."""

from __future__ import annotations

from typing import Any

import pytest

from countersign_contracts.approval_commands import ListStandings
from countersign_contracts.approvals import StandingOffer
from countersign_contracts.model import now

from .conftest import Scene, held, vote

RULE = """
kind: approval_rule
name: both
stages:
  - {name: owner, approvers: ["group:owners"]}
  - {name: security, approvers: ["group:security"]}
standing: {max_uses: 5, max_s: 3600}
"""


@pytest.mark.parametrize("change", [{"status": "removed"}, {"roles": ("reader",)}, {"groups": ()}])
async def test_a_vote_is_void_once_its_voter_is_not_entitled_and_the_stage_opens_again(
    scene: Scene, change: dict[str, Any]
) -> None:
    await scene.apply(RULE)
    await scene.person("olga", "owners")
    await scene.person("otto", "owners")
    await scene.person("sam", "security")
    event = await scene.hold()
    view = await scene.gateway.ask(vote(event, "olga"))
    assert [stage.state for stage in view.stages] == ["done", "open"]
    groups = change.pop("groups", ("owners",))
    await scene.person("olga", *groups, **change)
    view = await scene.known(event, lambda v: not v.votes)
    assert [stage.state for stage in view.stages] == ["open", "waiting"]
    await scene.refused(vote(event, "sam"), "not_entitled")
    await scene.gateway.ask(vote(event, "otto"))
    view = await scene.gateway.ask(vote(event, "sam"))
    assert view.state == "approved" and [v.voter for v in view.votes] == ["otto", "sam"]
    events = await scene.told("resolved", about=event.approval_id)
    assert [e.spec.name for e in events if e.spec.name != "vote_refused"] == [
        "requested", "voted", "advanced", "vote_voided", "voted", "advanced", "voted", "resolved",
    ]  # fmt: skip
    assert len({e.event_id() for e in events}) == len(events)


async def test_who_is_entitled_again_votes_again(scene: Scene) -> None:
    await scene.apply(RULE)
    await scene.person("olga", "owners")
    event = await scene.hold()
    await scene.gateway.ask(vote(event, "olga"))
    await scene.person("olga", roles=("reader",))
    await scene.known(event, lambda v: not v.votes)
    await scene.person("olga", "owners")
    view = await scene.gateway.ask(vote(event, "olga"))
    assert view.votes[0].nth == 2 and view.stages[0].state == "done"
    events = await scene.told("advanced", 2, about=event.approval_id)
    assert len({e.event_id() for e in events}) == len(events) == 6


async def test_what_does_not_concern_the_vote_voids_nothing(scene: Scene) -> None:
    await scene.apply(RULE)
    await scene.person("olga", "owners")
    event = await scene.hold()
    await scene.gateway.ask(vote(event, "olga"))
    await scene.person("olga", "owners", "sales", slack="T1/U1")
    done = await scene.hold()
    await scene.gateway.ask(vote(done, "olga"))
    await scene.person("olga", status="removed")
    await scene.known(event, lambda v: not v.votes)
    events = await scene.told("vote_voided", 2)
    assert [e.approval_id for e in events if e.spec.name == "vote_voided"] == [event.approval_id, done.approval_id]


async def test_an_ended_approval_keeps_its_votes_and_what_was_allowed_ahead_is_revoked(scene: Scene) -> None:
    await scene.apply(RULE)
    await scene.person("olga", "owners")
    await scene.person("sam", "security")
    event = await scene.hold(held(resource="things/1", n=1))
    offer = StandingOffer(resource="things/*", until=now().replace(microsecond=0).replace(year=2999), max_uses=3)
    await scene.refused(vote(event, "olga", standing=offer), "invalid")
    offer = offer.model_copy(update={"until": now() + (await scene.known(event)).deadline.__sub__(now()) / 2})
    await scene.gateway.ask(vote(event, "olga", standing=offer))
    await scene.gateway.ask(vote(event, "sam", standing=offer))
    assert len((await scene.gateway.ask(ListStandings())).items) == 1
    await scene.person("sam")
    events = await scene.told("standing_revoked")
    assert "sam is none of those" in events[-1].reason and events[-1].standing.revoked_by == "admin"
    assert (await scene.gateway.ask(ListStandings())).items == ()
    assert len((await scene.gateway.ask(ListStandings(in_force=False))).items) == 1
    view = await scene.known(event)
    assert view.state == "approved" and len(view.votes) == 2
