"""What becomes of held actions once their approval ends."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from countersign_chassis import Failpoints
from countersign_contracts import warrant
from countersign_contracts.actions import ActionDenied, ActionGranted, ActionHeld, Amendment
from countersign_contracts.catalogue import Document
from countersign_contracts.commands import CancelAction
from countersign_contracts.control import DeadLettered, Stop
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import new_id
from countersign_contracts.model import now
from countersign_policy.guardrails import Count
from countersign_policy.store import Decisions

from .conftest import Rig, make_action, update, vote


async def denied(rig: Rig, held: ActionHeld) -> ActionDenied:
    event = await rig.heard(f"{held.action.request_id}.denied")
    assert isinstance(event, ActionDenied)
    return event


async def test_held_tells_people_what_they_need(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    (held,) = await rig.hold(update(env="prod"))
    assert (held.owner_team, held.owner_oncall, held.deadline_s) == ("support", "oncall@example.com", 3600)
    assert held.decision.approval_id == held.approval_id
    assert held.decision.reasons[0].code == "approval_required"
    assert (held.tool_description, held.resource) == ("Change a ticket.", "tickets/1")
    assert held.preview == "Set ticket 1 to open, titled (no title)"


async def test_approved_it_is_granted_and_the_warrant_names_the_approval(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    (held,) = await rig.hold(update(env="prod"))
    votes = [
        vote("approve", held.action.digest, comment="looks right"),
        vote("approve", held.action.digest, voter="bob"),
    ]
    await rig.resolve(held, votes=votes)
    event = await rig.heard(f"{held.action.request_id}.granted")
    assert isinstance(event, ActionGranted)
    assert [r.code for r in event.decision.reasons] == ["permitted", "approved"]
    assert event.decision.reasons[1].message == "approved by ann: looks right; bob"
    claims = warrant.verify(event.warrant, held.action, at=now(), trust=rig.stack.trust())
    assert claims.approval_id == held.approval_id == event.decision.approval_id


async def test_a_repeat_after_the_approval_is_answered_with_the_grant(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    (held,) = await rig.hold(update(env="prod"))
    await rig.resolve(held)
    granted = f"{held.action.request_id}.granted"
    await rig.heard(granted)
    await rig.request(held.action, attempt="again")
    await rig.heard(granted, times=2)
    assert len(set(rig.bodies[granted])) == 1
    assert len(rig.bodies[f"{held.action.request_id}.held"]) == 1


async def test_held_actions_count_and_approved_ones_do_not_count_twice(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    held = await rig.hold(*(update(env="prod") for _ in range(5)))
    sixth = update(env="prod")
    await rig.request(sixth)
    assert isinstance(await rig.ended(sixth), ActionDenied)
    for each in held:
        await rig.resolve(each)
    for each in held:
        event = await rig.heard(f"{each.action.request_id}.granted")
        assert isinstance(event, ActionGranted)
    assert await rig.fetch("SELECT count(*) FROM guardrail_usage") == 5


@pytest.mark.parametrize(
    ("state", "code", "says"),
    [
        ("rejected", "approval_rejected", "rejected by ann: too risky"),
        ("expired", "approval_expired", "nobody approved it within 60 s"),
        ("cancelled", "cancelled", "was cancelled"),
    ],
)
async def test_what_is_not_approved_is_denied_and_gives_its_reservation_back(
    rig: Rig, state: str, code: str, says: str
) -> None:
    await rig.service()
    await rig.apply()
    (held,) = await rig.hold(update(env="prod"))
    votes = [vote("reject", held.action.digest, comment="too risky")] if state == "rejected" else []
    await rig.resolve(held, state, votes=votes, resolved_at=held.decision.decided_at + timedelta(seconds=60))
    event = await denied(rig, held)
    assert event.decision.reasons[0].code == code
    assert says in event.decision.reasons[0].message
    assert event.expired == (state == "expired")
    assert await rig.fetch("SELECT count(*) FROM guardrail_usage") == 0


OTHER_DIGEST = "sha256:" + "1" * 64


@pytest.mark.parametrize("wrong", ["vote", "ref", "approval", "no votes"])
async def test_an_approval_counts_for_exactly_this_action_only(rig: Rig, wrong: str) -> None:
    await rig.service()
    await rig.apply()
    (held,) = await rig.hold(update(env="prod"))
    changes: dict[str, dict[str, Any]] = {
        "vote": {"votes": [vote("approve", OTHER_DIGEST)]},
        "ref": {"action": held.action.ref().model_copy(update={"digest": OTHER_DIGEST})},
        "approval": {"approval_id": "apr_other"},
        "no votes": {"votes": []},
    }
    await rig.resolve(held, **changes[wrong])
    assert (await denied(rig, held)).decision.reasons[0].code == "approval_digest"


async def test_an_approved_action_is_decided_again_as_things_are_now(rig: Rig) -> None:
    service = await rig.service()
    await rig.apply()
    stopped, forbidden = await rig.hold(update(env="prod"), update(env="prod"))
    stop = Stop(stop_id="stp_1", scope="all", reason="incident", set_by="ann", set_at=now())
    mirror = next(m for m in service._mirrors if m._bucket.name == "stops")
    await rig.stops.put("stp_1", stop)
    await mirror.reach("stp_1", 1)
    await rig.resolve(stopped)
    assert (await denied(rig, stopped)).decision.reasons[0].code == "stopped"
    await rig.stops.put("stp_1", stop.model_copy(update={"lifted_at": now(), "revision": 2}))
    await mirror.reach("stp_1", 2)
    await rig.apply([Document(path="no.cedar", text="forbid (principal, action, resource);")])
    await rig.resolve(forbidden)
    event = await denied(rig, forbidden)
    assert event.decision.policies == ("no/1",)
    assert event.decision.policy_version != forbidden.decision.policy_version
    assert await rig.fetch("SELECT count(*) FROM guardrail_usage") == 0


async def test_an_approval_counts_for_the_risk_that_people_saw_and_for_lower_ones(rig: Rig) -> None:
    """At a higher one others are asked, or more of them, and more is asked of them."""
    await rig.service()
    await rig.apply()
    (riskier, as_risky) = await rig.hold(update(env="prod"), update(env="prod"))
    assert riskier.decision.risk == "high"

    async def change(risk: str) -> None:
        world = {document.path: document.text for document in rig.world()}
        changed = world["profiles.yaml"].replace(
            "guardrails:", f"overrides: {{update_ticket: {{risk: {risk}}}}}\nguardrails:", 1
        )
        await rig.apply([Document(path="profiles.yaml", text=changed)])

    await change("critical")
    await rig.resolve(riskier)
    (reason,) = (await denied(rig, riskier)).decision.reasons
    assert (reason.code, reason.policy) == ("approval_outgrown", riskier.approval_id)
    assert "approved at high risk, and is critical" in reason.message
    await change("medium")
    await rig.resolve(as_risky)
    assert isinstance(await rig.heard(f"{as_risky.action.request_id}.granted"), ActionGranted)


async def test_an_approval_of_nothing_is_dead_lettered(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    (held,) = await rig.hold(update(env="prod"))
    ghost = make_action()
    await rig.resolve(held, approval_id="apr_ghost", action=ghost.ref())
    letter = await rig.first(DeadLettered)
    assert letter.consumer == "policy-approvals"
    assert letter.reason == f"no decision holds action {ghost.request_id}"


def amendment(held: ActionHeld, **changes: Any) -> Amendment:
    """Bob closes the ticket instead."""
    args = held.action.args | {"status": "closed"}
    digest = held.action.model_copy(update={"args": args}).computed_digest()
    return Amendment(**({"request_id": new_id(), "args": args, "digest": digest, "by": "bob"} | changes))


async def test_what_was_changed_is_denied_for_what_takes_its_place(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    (held,) = await rig.hold(update(env="prod"))
    change = amendment(held)
    votes = [vote("approve", held.action.digest, voter="bob", comment="close it")]
    await rig.resolve(held, "amended", votes=votes, amendment=change)
    event = await denied(rig, held)
    (reason,) = event.decision.reasons
    assert (event.amendment, reason.code, reason.policy) == (change, "amended", held.approval_id)
    assert reason.message == f"changed by bob: close it; action {change.request_id} takes its place"
    assert await rig.fetch("SELECT count(*) FROM guardrail_usage") == 0
    await rig.request(held.action, attempt="again")
    repeated = f"{held.action.request_id}.denied"
    await rig.heard(repeated, times=2)
    assert len(set(rig.bodies[repeated])) == 1


@pytest.mark.parametrize("wrong", ["digest", "args", "approval", "same", "none", "own id"])
async def test_a_change_that_is_not_what_was_approved_comes_to_nothing(rig: Rig, wrong: str) -> None:
    await rig.service()
    await rig.apply()
    (held,) = await rig.hold(update(env="prod"))
    change: Amendment | None = {
        "digest": amendment(held, digest=OTHER_DIGEST),
        "args": amendment(held, args=held.action.args | {"status": "in_progress"}),
        "approval": amendment(held),
        "same": amendment(held, args=held.action.args, digest=held.action.digest),
        "none": None,
        "own id": amendment(held, request_id=held.action.request_id),
    }[wrong]
    approval_id = "apr_other" if wrong == "approval" else held.approval_id
    await rig.resolve(held, "amended", amendment=change, approval_id=approval_id)
    event = await denied(rig, held)
    assert (event.amendment, event.decision.reasons[0].code) == (None, "approval_digest")


async def test_cancelled_first_it_is_changed_into_nothing(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    (held,) = await rig.hold(update(env="prod"))
    await rig.ask(CancelAction(request_id=held.action.request_id, agent_id="helper", by="helper"))
    await rig.resolve(held, "amended", amendment=amendment(held))
    (other,) = await rig.hold(update(env="prod"))
    await rig.resolve(other)
    await rig.heard(f"{other.action.request_id}.granted")
    assert f"{held.action.request_id}.denied" not in rig.bodies


async def test_cancelling_and_approving_at_once_ends_one_way(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    await rig.service()
    for _ in range(10):
        (held,) = await rig.hold(update(session=new_id(), env="prod"))
        cancel = CancelAction(request_id=held.action.request_id, agent_id="helper", by="helper")
        outcomes = await asyncio.gather(rig.resolve(held), rig.ask(cancel), return_exceptions=True)
        too_late = isinstance(outcomes[1], CountersignError)
        if too_late:
            assert isinstance(await rig.heard(f"{held.action.request_id}.granted"), ActionGranted)
        (other,) = await rig.hold(update(session=new_id(), env="prod"))
        await rig.resolve(other)
        await rig.heard(f"{other.action.request_id}.granted")
        outcome = await rig.fetch("SELECT outcome FROM decision WHERE request_id = $1", held.action.request_id)
        assert outcome == ("allow" if too_late else "cancelled")
        assert (f"{held.action.request_id}.granted" in rig.bodies) == (outcome == "allow")


@pytest.mark.parametrize(
    "point",
    ["policy.before_commit", "policy.after_commit_before_publish", "policy.after_publish_before_ack"],
)
async def test_a_crash_while_resolving_ends_in_one_grant(rig: Rig, point: str) -> None:
    armed, survived = False, asyncio.Event()
    crashes = 0

    async def crash_twice() -> None:
        nonlocal crashes
        if armed and crashes < 2:
            crashes += 1
            raise ConnectionError("crash")
        if armed:
            survived.set()

    await rig.service(Failpoints({point: crash_twice}))
    await rig.apply()
    (held,) = await rig.hold(update(env="prod"))
    armed = True
    await rig.resolve(held)
    await rig.heard(f"{held.action.request_id}.granted")
    async with asyncio.timeout(5):
        await survived.wait()
    assert len(set(rig.bodies[f"{held.action.request_id}.granted"])) == 1
    assert await rig.fetch("SELECT count(*) FROM guardrail_usage") == 1


async def test_a_reservation_is_judged_as_of_when_it_was_made(rig: Rig) -> None:
    """It may have left its window while people thought about it, and others may have filled the window since."""
    service = await rig.service()
    decisions = Decisions(service.db)
    at = now()
    mine, later = new_id(), at + timedelta(hours=2)
    async with service.db.connection() as connection:
        for id, moment in ((new_id(), at - timedelta(seconds=1)), (mine, at), (new_id(), later), (new_id(), later)):
            await connection.execute(
                "INSERT INTO guardrail_usage (counter, request_id, amount, at, expires_at)"
                " VALUES ('c', $1::uuid, 1, $2, 'infinity')",
                id,
                moment,
            )
    count = Count("g", "g", "rate", "", "c", Decimal(1), Decimal(2), 60)
    async with decisions.transaction() as connection:
        own = await decisions.begin_resolution(connection, mine, [count], later)
        other = await decisions.begin_resolution(connection, new_id(), [count], later)
    assert own.used == [Decimal(1)]
    assert other.used == [Decimal(2)]
