"""Executors are killed at named points and paused in a call: at most one effect, and every action ends."""

import asyncio
import os
import signal
from typing import Any

import asyncpg
import pytest

from countersign_chassis import Failpoints
from countersign_contracts.actions import ActionExecuted, Execution
from countersign_executor.executions import Executions
from countersign_harness.standstill import stand_still


async def killed_at(world: Any, point: str, **tool: Any) -> tuple[Any, Execution]:
    """An action whose executor dies at ``point``; its end under a new executor, after the gateway's re-drive."""
    process = await world.process(point)
    await world.apply(world.tool(**tool))
    grant = world.grant()
    await world.policy.publish(grant)
    async with asyncio.timeout(10):
        assert await process.wait() == -signal.SIGKILL
    await world.executor()
    await world.repeat(grant)
    event = await world.final(grant)
    assert isinstance(event, ActionExecuted)
    return grant, event.execution


@pytest.mark.parametrize(
    ("point", "idempotent", "outcome", "fence", "calls"),
    [
        ("executor.after_claim_before_call", False, "unknown", 2, 0),
        ("executor.after_claim_before_call", True, "succeeded", 2, 1),
        ("executor.after_effect_before_record", False, "unknown", 2, 1),
        ("executor.after_effect_before_record", True, "succeeded", 2, 2),
        ("executor.after_record_before_publish", False, "succeeded", 1, 1),
        ("executor.after_publish_before_ack", False, "succeeded", 1, 1),
    ],
)
async def test_an_executor_killed_at_any_point_leaves_at_most_one_effect(
    world: Any, point: str, idempotent: bool, outcome: str, fence: int, calls: int
) -> None:
    grant, execution = await killed_at(world, point, idempotent=idempotent)
    assert (execution.outcome, execution.fence) == (outcome, fence)
    assert [r.headers["idempotency-key"] for r in world.downstream.requests] == [grant.about()] * calls
    # and it stays so, however often it is asked for
    await world.repeat(grant)
    await world.until(lambda: world.metric("countersign_messages_handled_total", consumer="executor-actions") >= 2)
    await world.until(lambda: not world.executors[0]._consumers[0]._held)
    assert len(world.downstream.requests) == calls
    view = await world.row(grant)
    assert (view.state, view.fence) == (outcome, fence)


async def test_an_interrupted_call_is_unknown_when_its_repeat_is_not_a_success(world: Any) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        status = 200 if len(world.downstream.requests) == 1 else 409
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())

    world.downstream.answer = answer
    _, execution = await killed_at(world, "executor.after_effect_before_record", idempotent=True)
    assert (execution.outcome, execution.status_code) == ("unknown", 409)


async def test_the_late_result_of_a_paused_executor_is_refused_by_its_fence(world: Any) -> None:
    release = asyncio.Event()

    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        if len(world.downstream.requests) == 1:
            await release.wait()
            writer.write(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n")

    world.downstream.answer = answer
    paused = await world.process()
    await world.apply(world.tool(idempotent=True, http={"timeout_s": 30, "retries": 0}))
    grant = world.grant()
    await world.policy.publish(grant)
    await world.until(lambda: len(world.downstream.requests) == 1)
    stand_still(paused.pid)
    await world.executor()
    # some repeats may be handed to the paused one, which holds them
    for _ in range(20):
        await world.repeat(grant)
        if any(event.about() == grant.about() and event.spec.name == "executed" for event in world.heard):
            break
        await asyncio.sleep(0.2)
    event = await world.final(grant)
    assert isinstance(event, ActionExecuted)
    assert (event.execution.outcome, event.execution.fence) == ("succeeded", 2)
    release.set()
    os.kill(paused.pid, signal.SIGCONT)
    await world.until(lambda: world.downstream.answering == 0)
    await asyncio.sleep(0.5)
    view = await world.row(grant)
    assert (view.state, view.fence) == ("succeeded", 2)
    told = [event for event in world.heard if event.spec.name == "executed"]  # a repeat is answered with the same again
    assert {(event.execution.outcome, event.execution.fence) for event in told} == {("succeeded", 2)}


async def test_what_another_living_executor_has_in_hand_is_left_to_it(world: Any) -> None:
    release = asyncio.Event()

    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n")

    world.downstream.answer = answer
    await world.executor()
    await world.executor()
    await world.apply(world.tool(http={"timeout_s": 30}))
    grant = world.grant()
    await world.policy.publish(grant)
    await world.until(lambda: len(world.downstream.requests) == 1)
    for _ in range(6):
        await world.repeat(grant)
    await asyncio.sleep(1.0)
    assert (await world.row(grant)).state == "started"
    release.set()
    event = await world.final(grant)
    assert isinstance(event, ActionExecuted)
    assert (event.execution.outcome, event.execution.fence) == ("succeeded", 1)
    assert len(world.downstream.requests) == 1


async def test_a_claim_that_was_not_called_is_taken_up_by_the_process_that_made_it(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim's commit is done, but its answer never arrives: no effect, so no unknown outcome."""
    claim = Executions.claim
    lost: list[int] = []

    async def lose_the_first_answer(self: Executions, claims: Any) -> Any:
        answers = await claim(self, claims)
        if not lost:
            lost.append(1)
            raise ConnectionResetError("lost")
        return answers

    monkeypatch.setattr(Executions, "claim", lose_the_first_answer)
    await world.executor()
    await world.apply(world.tool())
    event = await world.execute(world.grant())
    assert isinstance(event, ActionExecuted)
    assert (event.execution.outcome, event.execution.fence) == ("succeeded", 2)
    assert world.metric("countersign_grants_given_back_total", reason="unavailable") == 1
    assert len(world.downstream.requests) == 1


@pytest.mark.parametrize(("idempotent", "outcome", "calls"), [(False, "unknown", 1), (True, "succeeded", 2)])
async def test_a_call_whose_recording_failed_in_this_process_counts_as_interrupted(
    world: Any, idempotent: bool, outcome: str, calls: int
) -> None:
    failed: list[int] = []

    async def fail_once() -> None:
        if not failed:
            failed.append(1)
            raise RuntimeError("a bug")

    await world.executor(Failpoints({"executor.after_effect_before_record": fail_once}))
    await world.apply(world.tool(idempotent=idempotent))
    event = await world.execute(world.grant())
    assert isinstance(event, ActionExecuted)
    assert (event.execution.outcome, event.execution.fence) == (outcome, 2)
    assert len(world.downstream.requests) == calls


async def test_a_grant_that_fails_for_ever_is_dead_lettered(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr("countersign_executor.grants.MAX_TRIES", 2)
    monkeypatch.setattr("countersign_executor.actions.Actions.carry_out", fail)
    await world.executor()
    await world.policy.publish(world.grant())
    await world.until(lambda: world.metric("countersign_messages_dead_total", consumer="executor-actions") == 1)
    assert world.metric("countersign_grants_given_back_total", reason="failed") == 1


@pytest.mark.parametrize("error", [ConnectionResetError("away"), asyncpg.InternalClientError("it is ending")])
async def test_an_outcome_is_written_though_the_database_is_away_for_a_while(
    world: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    finish = Executions.finish
    away: list[int] = []

    async def away_at_first(self: Executions, ends: Any) -> Any:
        if len(away) < 3:
            away.append(1)
            raise error
        return await finish(self, ends)

    monkeypatch.setattr(Executions, "finish", away_at_first)
    await world.executor()
    await world.apply(world.tool())
    event = await world.execute(world.grant())
    assert isinstance(event, ActionExecuted) and event.execution.outcome == "succeeded"
    assert len(away) == 3 and len(world.downstream.requests) == 1


async def test_an_outcome_whose_writing_was_not_confirmed_is_not_taken_for_late(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Executions.finish
    lost: list[int] = []

    async def lose_the_first_answer(self: Executions, ends: Any) -> Any:
        written = await finish(self, ends)
        if not lost:
            lost.append(1)
            raise ConnectionResetError("lost")
        return written

    monkeypatch.setattr(Executions, "finish", lose_the_first_answer)
    await world.executor()
    await world.apply(world.tool())
    event = await world.execute(world.grant())
    assert isinstance(event, ActionExecuted) and event.execution.outcome == "succeeded"
    assert world.metric("countersign_results_late_total") == 0


async def test_who_asks_once_more_is_told_again_how_it_ended(world: Any) -> None:
    """Found by faults: the gateway died with the outcome in hand, and the action stood still until its redelivery."""
    await world.executor()
    await world.apply(world.tool())
    grant = world.grant()
    event = await world.execute(grant)
    await world.repeat(grant)
    await world.until(lambda: [id for id, _ in world.bodies].count(event.event_id()) == 2)
    assert len({body for id, body in world.bodies if id == event.event_id()}) == 1
    assert len(world.downstream.requests) == 1


async def test_a_stopping_executor_ends_what_it_began(world: Any) -> None:
    began = asyncio.Event()

    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        began.set()
        await asyncio.sleep(0.3)
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n")

    world.downstream.answer = answer
    service = await world.executor()
    await world.apply(world.tool())
    grant = world.grant()
    await world.policy.publish(grant)
    await began.wait()
    await service.stop()
    event = await world.final(grant)
    assert isinstance(event, ActionExecuted) and event.execution.outcome == "succeeded"
