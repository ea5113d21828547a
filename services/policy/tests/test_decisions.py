"""Actions in, decisions out, over the real bus and database."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest

from countersign_chassis import Failpoints
from countersign_contracts import warrant
from countersign_contracts.actions import ActionDenied, ActionGranted, ActionHeld, ActionRefused, Reason
from countersign_contracts.commands import CancelAction
from countersign_contracts.control import Stop
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import new_id
from countersign_contracts.model import now
from countersign_policy.store import Decisions, Present

from .conftest import Rig, make_action, update


async def test_a_permitted_action_is_granted_with_a_warrant_for_exactly_it(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    action = make_action()
    await rig.request(action)
    event = await rig.heard(f"{action.request_id}.granted")
    assert isinstance(event, ActionGranted)
    assert event.decision.policies == ("profile/support/tools",)
    claims = warrant.verify(event.warrant, action, at=now(), trust=rig.stack.trust())
    assert claims.policy_version == event.decision.policy_version
    assert claims.exp - claims.iat == 300


async def test_without_policies_nothing_is_permitted(rig: Rig) -> None:
    await rig.service()
    action = make_action()
    await rig.request(action)
    event = await rig.ended(action)
    assert isinstance(event, ActionDenied)
    assert [r.code for r in event.decision.reasons] == ["no_permit"]


async def test_a_repeat_is_answered_with_the_very_same_bytes(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    action = make_action()
    await rig.request(action)
    await rig.heard(f"{action.request_id}.granted")
    await rig.request(action, attempt="again")
    await rig.heard(f"{action.request_id}.granted", times=2)
    first, second = rig.bodies[f"{action.request_id}.granted"]
    assert first == second


async def test_decided_once_under_two_replicas(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    await rig.service()
    actions = [make_action(session_id=f"s-{n}") for n in range(40)]
    await asyncio.gather(*(rig.request(*actions, attempt=str(n)) for n in range(4)))
    for action in actions:
        await rig.heard(f"{action.request_id}.granted")
    assert {len(set(bodies)) for id, bodies in rig.bodies.items() if id.endswith(".granted")} == {1}


@pytest.mark.parametrize("replicas", [1, 3])
async def test_a_limit_is_exact_under_fifty_at_once(rig: Rig, replicas: int) -> None:
    await rig.service()
    await rig.apply()
    for _ in range(replicas - 1):
        await rig.service()
    actions = [update() for _ in range(50)]
    await asyncio.gather(*(rig.request(action) for action in actions))
    for action in actions:
        await rig.ended(action)
    assert rig.count(ActionGranted) == 5
    assert rig.count(ActionDenied) == 45


async def test_repeats_within_a_limit_use_it_up_once(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    await rig.service()
    actions = [update() for _ in range(5)]
    await asyncio.gather(*(rig.request(*actions, attempt=str(n)) for n in range(5)))
    for action in actions:
        assert isinstance(await rig.ended(action), ActionGranted)
    assert rig.count(ActionDenied) == 0


async def test_repeats_leave_the_rest_of_a_limit_to_the_others_of_their_batch(rig: Rig) -> None:
    first = await rig.service()
    await rig.apply()
    four, fifth = [update() for _ in range(4)], update()
    await rig.request(*four)
    for action in four:
        await rig.ended(action)
    await first.stop()
    # waiting together, they come as one batch
    await rig.request(*four, fifth, attempt="again")
    await rig.service()
    assert isinstance(await rig.ended(fifth), ActionGranted)


async def test_who_counts_waits_for_who_counted_before_and_sees_it(rig: Rig) -> None:
    service = await rig.service()
    decisions, at = Decisions(service.db), now()
    async with asyncio.TaskGroup() as tasks:
        async with decisions.transaction() as connection:
            one = await decisions.begin_decisions(connection, [], {"c": 60, "d": 60}, at)
            assert one.used == [Decimal(0), Decimal(0)]

            async def count() -> Present:
                async with decisions.transaction() as other:
                    return await decisions.begin_decisions(other, [], {"d": 60, "c": 60}, at)

            waiting = tasks.create_task(count())
            await rig.until("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)")
            await connection.execute(
                "INSERT INTO guardrail_usage (counter, request_id, amount, at, expires_at)"
                " VALUES ('c', $1::uuid, 2, $2, 'infinity')",
                new_id(),
                at,
            )
        assert (await waiting).used == [Decimal(0), Decimal(2)]


async def test_a_window_slides(rig: Rig) -> None:
    service = await rig.service()
    decisions, at = Decisions(service.db), now()
    async with decisions.transaction() as connection:
        for age_s in (10, 59, 61):
            await connection.execute(
                "INSERT INTO guardrail_usage (counter, request_id, amount, at, expires_at)"
                " VALUES ('c', $1::uuid, 0.1, $2, 'infinity')",
                new_id(),
                at - timedelta(seconds=age_s),
            )
        used = [(await decisions.begin_decisions(connection, [], {"c": w}, at)).used[0] for w in (5, 60, 3600)]
    assert used == [Decimal(0), Decimal("0.2"), Decimal("0.3")]


async def test_a_refused_action_gives_its_reservation_back(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    actions = [update() for _ in range(5)]
    await rig.request(*actions)
    for action in actions:
        await rig.heard(f"{action.request_id}.granted")
    refused = ActionRefused(
        action=actions[0].ref(), reasons=(Reason(code="stopped", message="stopped"),), refused_at=now()
    )
    await rig.executor.publish(refused)
    more = [update(), update()]
    await rig.until("SELECT NOT EXISTS (SELECT FROM guardrail_usage WHERE request_id = $1)", actions[0].request_id)
    await rig.request(*more)
    ended = [await rig.ended(action) for action in more]
    assert sorted(type(event).__name__ for event in ended) == ["ActionDenied", "ActionGranted"]


async def test_denied_actions_use_up_nothing(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    denied = [update(args={"ticket_id": 0}) for _ in range(10)]
    await rig.request(*denied)
    for action in denied:
        assert isinstance(await rig.ended(action), ActionDenied)
    good = [update() for _ in range(5)]
    await rig.request(*good)
    for action in good:
        assert isinstance(await rig.ended(action), ActionGranted)


async def test_a_stop_denies_until_it_is_lifted(rig: Rig) -> None:
    service = await rig.service()
    await rig.apply()
    stop = Stop(stop_id="stp_1", scope="tool:list_tickets", reason="incident", set_by="ann", set_at=now())
    await rig.stops.put(stop.stop_id, stop)
    mirror = next(m for m in service._mirrors if m._bucket.name == "stops")
    await mirror.reach(stop.stop_id, 1)
    first = make_action()
    await rig.request(first)
    event = await rig.ended(first)
    assert isinstance(event, ActionDenied)
    assert [(r.code, r.policy) for r in event.decision.reasons] == [("stopped", "stp_1")]
    await rig.stops.put(stop.stop_id, stop.model_copy(update={"lifted_by": "ann", "lifted_at": now(), "revision": 2}))
    await mirror.reach(stop.stop_id, 2)
    second = make_action()
    await rig.request(second)
    assert isinstance(await rig.ended(second), ActionGranted)


async def test_a_tool_newer_than_the_mirror_is_read_through(rig: Rig) -> None:
    service = await rig.service()
    await rig.apply()
    mirror = next(m for m in service._mirrors if m._bucket.name == "tools")
    record = mirror.get("list_tickets")
    assert record is not None
    await mirror.stop()  # from now on it lags
    await rig.put_tool(record.tool, version=2)
    action = make_action(tool_version=2)
    await rig.request(action)
    assert isinstance(await rig.ended(action), ActionGranted)
    stale = make_action(tool_version=1)
    await rig.request(stale)
    event = await rig.ended(stale)
    assert isinstance(event, ActionDenied)
    assert event.decision.reasons[0].code == "tool_changed"


class TestCancelling:
    """Cancelling is arbitrated by the decision's row."""

    async def test_before_a_decision(self, rig: Rig) -> None:
        await rig.service()
        await rig.apply()
        action, other = make_action(), make_action()
        await rig.ask(CancelAction(request_id=action.request_id, agent_id="helper", by="helper"))
        await rig.ask(CancelAction(request_id=action.request_id, agent_id="helper", by="helper"))
        await rig.request(action)
        await rig.request(other)
        await rig.heard(f"{other.request_id}.granted")
        assert f"{action.request_id}.granted" not in rig.bodies

    async def test_while_held_gives_the_reservation_back(self, rig: Rig) -> None:
        await rig.service()
        await rig.apply()
        held = [update(env="prod") for _ in range(5)]
        await rig.request(*held)
        for action in held:
            assert isinstance(await rig.ended(action), ActionHeld)
        await rig.ask(CancelAction(request_id=held[0].request_id, agent_id="helper", by="ann", reason="no"))
        more = [update(env="prod"), update(env="prod")]
        await rig.request(*more)
        ended = [await rig.ended(action) for action in more]
        assert sorted(type(event).__name__ for event in ended) == ["ActionDenied", "ActionHeld"]
        await rig.request(held[0], held[1], attempt="again")
        await rig.heard(f"{held[1].request_id}.held", times=2)
        assert len(rig.bodies[f"{held[0].request_id}.held"]) == 1, "the gateway tells of the cancelled one"

    async def test_not_after_it_was_granted(self, rig: Rig) -> None:
        await rig.service()
        await rig.apply()
        action = make_action()
        await rig.request(action)
        await rig.heard(f"{action.request_id}.granted")
        with pytest.raises(CountersignError, match="too late to cancel") as caught:
            await rig.ask(CancelAction(request_id=action.request_id, agent_id="helper", by="helper"))
        assert caught.value.code == "already_final"

    async def test_not_another_agents(self, rig: Rig) -> None:
        await rig.service()
        await rig.apply()
        action = update(env="prod")
        await rig.request(action)
        await rig.heard(f"{action.request_id}.held")
        with pytest.raises(CountersignError) as caught:
            await rig.ask(CancelAction(request_id=action.request_id, agent_id="intern", by="intern"))
        assert caught.value.code == "not_found"

    async def test_against_a_concurrent_decision_one_of_both_wins(self, rig: Rig) -> None:
        await rig.service()
        await rig.apply()
        await rig.service()
        for _ in range(15):
            action = make_action()
            cancel = CancelAction(request_id=action.request_id, agent_id="helper", by="helper")
            outcomes = await asyncio.gather(rig.request(action), rig.ask(cancel), return_exceptions=True)
            probe = make_action()
            await rig.request(probe)
            await rig.ended(probe)
            outcome = await rig.fetch("SELECT outcome FROM decision WHERE request_id = $1", action.request_id)
            assert outcome == ("allow" if isinstance(outcomes[1], CountersignError) else "cancelled")


@pytest.mark.parametrize(
    "point",
    ["policy.before_commit", "policy.after_commit_before_publish", "policy.after_publish_before_ack"],
)
@pytest.mark.parametrize("counted", [False, True])
async def test_a_crash_at_any_point_ends_in_one_decision(rig: Rig, point: str, counted: bool) -> None:
    hits, survived = 0, asyncio.Event()

    async def crash_twice() -> None:
        nonlocal hits
        hits += 1
        if hits <= 2:
            raise ConnectionError("crash")
        survived.set()

    await rig.service(Failpoints({point: crash_twice}))
    await rig.apply()
    actions = [update() if counted else make_action() for _ in range(3)]
    await rig.request(*actions)
    for action in actions:
        assert isinstance(await rig.ended(action), ActionGranted)
    async with asyncio.timeout(5):
        await survived.wait()
    assert {len(set(bodies)) for bodies in rig.bodies.values()} == {1}
    if counted:
        assert await rig.fetch("SELECT count(*) FROM guardrail_usage") == 3


async def test_reservations_that_count_no_more_are_deleted_but_not_those_of_held_actions(rig: Rig) -> None:
    service = await rig.service()
    await rig.apply()
    held, granted = update(env="prod", session="a"), update(session="b")
    await rig.request(held, granted)
    await rig.ended(held)
    await rig.ended(granted)
    decisions = Decisions(service.db)
    assert await decisions.purge(now()) == 0
    assert await decisions.purge(now() + timedelta(days=2)) == 1
    assert await rig.fetch("SELECT count(*) FROM guardrail_usage WHERE request_id = $1", held.request_id) == 1
