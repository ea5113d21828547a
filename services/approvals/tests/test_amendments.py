"""Approved with changes, on real servers: the first ends, the second is asked for anew, its author's vote on it."""

from __future__ import annotations

from typing import Any

import pytest

from countersign_contracts.actions import ActionHeld
from countersign_contracts.approvals import Amendment
from countersign_contracts.ids import new_id

from .conftest import Scene, held, vote

RULE = """
kind: approval_rule
name: r
stages: [{name: one, approvers: [anyone], quorum: QUORUM}]
changes: {amount: lower}
"""


def follows(first: ActionHeld, amendment: Amendment, **more: Any) -> ActionHeld:
    return held(**({"request_id": amendment.request_id, "amends": first.action.request_id} | amendment.args | more))


async def amended(scene: Scene, quorum: int = 2) -> tuple[ActionHeld, Amendment]:
    await scene.apply(RULE.replace("QUORUM", str(quorum)))
    event = await scene.hold(held(amount=100, iban="DE1"))
    view = await scene.gateway.ask(vote(event, "alice", changes={"amount": 50}))
    assert view.state == "amended" and view.amended_as is not None
    [resolved] = [e for e in await scene.told("resolved", about=event.approval_id) if e.spec.name == "resolved"]
    assert resolved.state == "amended" and resolved.amendment.request_id == view.amended_as
    assert resolved.amendment.args == {"amount": 50, "iban": "DE1"} and resolved.amendment.by == "alice"
    amendment: Amendment = resolved.amendment
    return event, amendment


async def test_who_changed_it_has_approved_what_it_became(scene: Scene) -> None:
    first, amendment = await amended(scene)
    second = await scene.hold(follows(first, amendment))
    view = await scene.known(second, lambda v: len(v.votes) == 1)
    assert view.state == "pending" and view.amends == first.action.request_id
    assert view.votes[0].voter == "alice" and view.votes[0].digest == second.action.digest == amendment.digest
    view = await scene.gateway.ask(vote(second, "bob"))
    assert view.state == "approved"
    await scene.refused(vote(first, "bob"), "conflict")
    again = await scene.gateway.ask(vote(first, "alice", changes={"amount": 50}))
    assert again.state == "amended"


async def test_where_one_is_enough_it_is_approved_at_once(scene: Scene) -> None:
    first, amendment = await amended(scene, quorum=1)
    second = await scene.hold(follows(first, amendment))
    assert (await scene.known(second, lambda v: v.state == "approved")).votes[0].voter == "alice"


@pytest.mark.parametrize("other", ["amount", "request_id", "amends", "own", "removed"])
async def test_what_is_not_exactly_that_is_nobody_s_yet(scene: Scene, other: str) -> None:
    first, amendment = await amended(scene)
    more: dict[str, Any] = {
        "amount": {"amount": 60},
        "request_id": {"request_id": new_id()},
        "amends": {"amends": new_id()},
        "own": {"owner_oncall": "alice"},
        "removed": {},
    }
    if other == "removed":
        await scene.person("alice", status="removed")
    second = await scene.hold(follows(first, amendment, **more[other]))
    await scene.hold(held(n=1))  # handled after the other
    view = await scene.known(second)
    assert view.votes == () and view.state == "pending"


async def test_changes_are_refused_where_the_rule_allows_none(scene: Scene) -> None:
    event = await scene.hold(held(amount=100))
    refused = await scene.refused(vote(event, changes={"amount": 50}), "invalid")
    assert "what may be: nothing" in refused.detail
    await scene.apply(RULE.replace("QUORUM", "1"))
    event = await scene.hold(held(amount=100))
    await scene.refused(vote(event, changes={"amount": 150}), "invalid")
    await scene.refused(vote(event, "alice", "reject", changes={"amount": 50}), "invalid")
    assert (await scene.known(event)).state == "pending"
