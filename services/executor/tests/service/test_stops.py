"""Promise 9: once a stop is acknowledged, no execution in its scope starts, also what was claimed before it."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from countersign_chassis import Failpoints, Mirror
from countersign_chassis.logs import logger
from countersign_contracts.actions import ActionExecuted, ActionRefused
from countersign_contracts.commands import LiftStop, ListStops, SetStop
from countersign_contracts.control import Stop
from countersign_contracts.errors import CountersignError
from countersign_contracts.projection import STOPS


async def stop(world: Any, scope: str = "all", by: str = "ada", reason: str = "fire") -> Stop:
    set_stop: Stop = await world.gateway.ask(SetStop(scope=scope, reason=reason, by=by))
    return set_stop


def assert_stopped(event: Any, by: Stop) -> None:
    assert isinstance(event, ActionRefused)
    (reason,) = event.reasons
    assert (reason.code, reason.policy) == ("stopped", by.stop_id)
    assert "fire" in reason.message


async def test_a_stop_halts_its_scope_until_it_is_lifted(world: Any) -> None:
    await world.executor()
    await world.apply(world.tool())
    for other in ("env:staging", "tool:other", "profile:other", "agent:other", "session:run-2"):
        await stop(world, other)
    scopes = ("all", "env:prod", "tool:change_item", "profile:writer", "agent:bot", "session:run-1")
    for scope in scopes:
        assert isinstance(await world.execute(world.grant()), ActionExecuted)
        order = await stop(world, scope)
        assert_stopped(await world.execute(world.grant()), order)
        await world.gateway.ask(LiftStop(stop_id=order.stop_id, by="bob"))
    assert isinstance(await world.execute(world.grant()), ActionExecuted)
    assert len(world.downstream.requests) == len(scopes) + 1


async def test_a_stop_holds_for_what_was_claimed_before_it(world: Any) -> None:
    """The claim is committed and waits for audit when the stop is set."""
    confirmed = asyncio.Event()

    async def recorded(ids: tuple[str, ...]) -> tuple[str, ...]:
        await confirmed.wait()
        return ids

    world.recorded = recorded
    await world.executor()
    await world.apply(world.tool())
    grant = world.grant()
    await world.policy.publish(grant)
    await world.claimed(grant)
    order = await stop(world)
    confirmed.set()
    assert_stopped(await world.final(grant), order)
    assert world.downstream.requests == []
    assert (await world.row(grant)).state == "refused"


async def test_a_stop_holds_up_to_the_very_call(world: Any) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await go_on.wait()

    await world.executor(Failpoints({"executor.after_claim_before_call": hold}))
    await world.apply(world.tool())
    grant = world.grant()
    await world.policy.publish(grant)
    await reached.wait()
    order = await stop(world)
    go_on.set()
    assert_stopped(await world.final(grant), order)
    assert world.downstream.requests == []


async def test_a_stop_holds_for_what_waits_for_its_turn(world: Any) -> None:
    release = asyncio.Event()

    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n")

    world.downstream.answer = answer
    await world.executor(max_calls_per_host=1)
    await world.apply(world.tool(http={"timeout_s": 30}))
    grants = [world.grant() for _ in range(5)]
    await world.policy.publish_all([(grant, None) for grant in grants])
    await world.until(lambda: len(world.downstream.requests) == 1)
    await stop(world)
    release.set()
    ends = [await world.final(grant) for grant in grants]
    assert sorted(event.spec.name for event in ends) == ["executed"] + ["refused"] * 4
    assert len(world.downstream.requests) == 1


async def test_a_stop_ends_the_tries_of_a_call(world: Any) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 X\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")

    world.downstream.answer = answer
    await world.executor()
    await world.apply(world.tool(idempotent=True))
    grant = world.grant()
    await world.policy.publish(grant)
    await world.until(lambda: len(world.downstream.requests) == 1)
    await stop(world)
    event = await world.final(grant)
    assert isinstance(event, ActionExecuted) and event.execution.failure is not None
    assert (event.execution.outcome, event.execution.attempts) == ("failed", 1)
    assert "no further attempt: stopped (all): fire" in event.execution.failure.message
    assert len(world.downstream.requests) == 1


async def test_under_load_nothing_starts_after_the_acknowledgement(world: Any) -> None:
    await world.executor()
    await world.apply(world.tool())
    grants = [world.grant() for _ in range(200)]

    async def load() -> None:
        for grant in grants:
            await world.policy.publish(grant)

    loading = asyncio.create_task(load())
    await world.until(lambda: len(world.downstream.requests) > 20)
    await stop(world)
    acknowledged = datetime.now(UTC)
    calls = len(world.downstream.requests)
    await loading
    ends = [await world.final(grant) for grant in grants]
    executed = [event for event in ends if isinstance(event, ActionExecuted)]
    assert all(event.execution.started_at and event.execution.started_at <= acknowledged for event in executed)
    assert len(world.downstream.requests) - calls <= len(executed) - calls
    assert 20 < len(executed) == len(world.downstream.requests) < len(grants)


async def test_stops_are_kept_told_and_projected(world: Any) -> None:
    await world.executor()
    first, same = await stop(world, "env:prod"), await stop(world, "env:prod")
    other = await stop(world, "env:prod", by="bob")
    assert first == same and other.stop_id != first.stop_id
    await world.hear(lambda event: event.spec.name == "stop_set" and event.stop == first)
    mirror: Mirror[Stop] = Mirror(STOPS, Stop, world.gateway.connection, world.stack.trust(), logger("test", "warning"))
    await mirror.start()
    await mirror.reach(first.stop_id, 1)
    lifted = await world.gateway.ask(LiftStop(stop_id=first.stop_id, by="bob"))
    assert (lifted.lifted_by, lifted.revision) == ("bob", 2)
    assert await world.gateway.ask(LiftStop(stop_id=first.stop_id, by="eve")) == lifted
    await world.hear(lambda event: event.spec.name == "stop_lifted" and event.stop == lifted)
    await mirror.reach(first.stop_id, 2)
    assert mirror.get(first.stop_id) == lifted
    await mirror.stop()
    in_force = await world.gateway.ask(ListStops())
    everything = await world.gateway.ask(ListStops(lifted=True))
    assert [s.stop_id for s in in_force.items] == [other.stop_id]
    assert [s.stop_id for s in everything.items] == [other.stop_id, first.stop_id]
    assert len([e for e in world.heard if e.spec.name == "stop_set"]) == 2
    with pytest.raises(CountersignError) as missing:
        await world.gateway.ask(LiftStop(stop_id="stp_none", by="eve"))
    assert missing.value.code == "not_found"


async def test_a_stop_outlives_the_executor(world: Any) -> None:
    service = await world.executor()
    await world.apply(world.tool())
    order = await stop(world)
    await service.stop()
    await world.executor()
    assert_stopped(await world.execute(world.grant()), order)


async def test_what_the_bus_missed_is_told_at_the_next_start(world: Any) -> None:
    """The stop is committed, and the executor dies before the bus heard of it."""
    service = await world.executor()
    order = await stop(world)
    await world.hear(lambda event: event.spec.name == "stop_set")
    body = next(body for i, body in world.bodies if i == f"{order.stop_id}.stop_set")
    missed = order.model_copy(update={"stop_id": "stp_missed"})
    await service.db.pool.execute(
        "INSERT INTO announcements (type, body) VALUES ($1, $2)",
        "countersign.control.stop_set.v1",
        body.replace(order.stop_id.encode(), b"stp_missed"),
    )
    await service.stop()
    again = await world.executor()
    await world.hear(lambda event: event.spec.name == "stop_set" and event.stop == missed)
    async with asyncio.timeout(5):
        while True:
            if await again.db.pool.fetchval("SELECT count(*) FROM announcements") == 0:
                break
            await asyncio.sleep(0.01)
