"""Claims, fences and stops as rows of a real PostgreSQL (promises 5 and 9)."""

import asyncio
from dataclasses import replace
from typing import Any

from countersign_chassis import Database
from countersign_contracts.control import Stop
from countersign_contracts.ids import new_id, prefixed
from countersign_contracts.model import now
from countersign_executor.control_store import ControlStore
from countersign_executor.executions import Claim, Executions, Finish


def claim(**changes: Any) -> Claim:
    return replace(
        Claim(new_id(), prefixed("exe"), "sha256:a", "change_item", 1, ("all", "env:prod", "agent:bot")), **changes
    )


def finish(of: Claim, fence: int, state: Any = "succeeded") -> Finish:
    return Finish(of.request_id, fence, state, b"{}", now(), fence)


async def set_stop(store: ControlStore, scope: str) -> Stop:
    async with store.transaction() as connection:
        await store.lock_claims_out(connection)
        wanted = Stop(stop_id=prefixed("stp"), scope=scope, reason="fire", set_by="ada", set_at=now())
        stop, _ = await store.set_stop(connection, wanted)
    return stop


async def test_a_batch_is_answered_in_order_each_for_itself(db: Database) -> None:
    executions, control = Executions(db, "own_1"), ControlStore(db)
    stop = await set_stop(control, "env:staging")
    taken = claim()
    await executions.claim([taken])
    batch = [
        claim(scopes=("all", "env:staging")),
        claim(version=2),
        taken,
        claim(tool="nope"),
        claim(),
    ]
    answers = await executions.claim(batch)
    assert [a.verdict for a in answers] == ["stopped", "tool_changed", "exists", "tool_changed", "claimed"]
    assert answers[0].stop_id == stop.stop_id
    assert (answers[4].fence, answers[4].execution_id) == (1, batch[4].execution_id)
    assert await executions.get(batch[0].request_id) is None
    assert await executions.get(batch[1].request_id) is None


async def test_an_action_is_claimed_once(db: Database) -> None:
    executions = Executions(db, "own_1")
    wanted = claim()
    assert (await executions.claim([wanted]))[0].verdict == "claimed"
    assert (await executions.claim([wanted]))[0].verdict == "exists"
    await executions.finish([finish(wanted, 1)])
    assert (await executions.claim([wanted]))[0].verdict == "exists"


async def test_a_claim_given_back_can_be_claimed_again_under_the_next_fence(db: Database) -> None:
    executions = Executions(db, "own_1")
    wanted = claim()
    await executions.claim([wanted])
    await executions.release(wanted.request_id, 1)
    again = (await Executions(db, "own_2").claim([replace(wanted, execution_id="exe_other")]))[0]
    assert (again.verdict, again.fence, again.execution_id) == ("claimed", 2, wanted.execution_id)
    await executions.release(wanted.request_id, 1)  # too late: the claim is another's now
    row = await executions.get(wanted.request_id)
    assert row is not None and (row.state, row.fence, row.owner) == ("started", 2, "own_2")


async def test_a_claim_given_back_is_not_open_to_another_digest(db: Database) -> None:
    executions = Executions(db, "own_1")
    wanted = claim()
    await executions.claim([wanted])
    await executions.release(wanted.request_id, 1)
    assert (await executions.claim([replace(wanted, digest="sha256:b")]))[0].verdict == "exists"


async def test_a_late_result_of_an_older_fence_is_refused(db: Database) -> None:
    paused, other = Executions(db, "own_1"), Executions(db, "own_2")
    wanted = claim()
    await paused.claim([wanted])
    async with other.transaction() as connection:
        await other.take_over(connection, wanted.request_id, 2)
    assert await paused.finish([finish(wanted, 1)]) == [False]
    assert not await paused.still_held(wanted.request_id, 1)
    assert await other.still_held(wanted.request_id, 2)
    assert await other.finish([finish(wanted, 2, "failed")]) == [True]
    assert await other.finish([finish(wanted, 2)]) == [False]
    row = await other.get(wanted.request_id)
    assert row is not None and (row.state, row.fence) == ("failed", 2)


async def test_two_executors_racing_claim_each_action_once(db: Database) -> None:
    one, two = Executions(db, "own_1"), Executions(db, "own_2")
    batches = [[claim() for _ in range(20)] for _ in range(10)]
    answers = await asyncio.gather(
        *(executor.claim(batch) for batch in batches for executor in (one, two)),
    )
    for mine, theirs in zip(answers[::2], answers[1::2], strict=True):
        assert all({a.verdict, b.verdict} == {"claimed", "exists"} for a, b in zip(mine, theirs, strict=True))


async def test_a_refusal_ends_what_never_started_and_nothing_else(db: Database) -> None:
    executions = Executions(db, "own_1")
    fresh, released, started = claim(), claim(), claim()
    await executions.claim([released, started])
    await executions.release(released.request_id, 1)
    assert await executions.refuse(fresh, b"{}", now())
    assert await executions.refuse(released, b"{}", now())
    assert not await executions.refuse(started, b"{}", now())
    assert not await executions.refuse(fresh, b"{}", now())
    states = [await executions.get(c.request_id) for c in (fresh, released, started)]
    assert [row.state for row in states if row] == ["refused", "refused", "started"]
    assert [a.verdict for a in await executions.claim([fresh, released])] == ["exists", "exists"]


async def test_a_claim_that_waits_for_a_stop_being_set_sees_it(db: Database) -> None:
    executions, control = Executions(db, "own_1"), ControlStore(db)
    async with control.transaction() as connection:
        await control.lock_claims_out(connection)
        claiming = asyncio.create_task(executions.claim([claim()]))
        await somebody_waits_for_the_lock(db)
        wanted = Stop(stop_id="stp_1", scope="all", reason="fire", set_by="ada", set_at=now())
        await control.set_stop(connection, wanted)
    (answer,) = await claiming
    assert (answer.verdict, answer.stop_id) == ("stopped", "stp_1")


async def test_a_stop_waits_for_the_claims_under_way(db: Database) -> None:
    executions, control = Executions(db, "own_1"), ControlStore(db)
    wanted = claim()
    async with executions.transaction() as connection:
        await connection.fetch(
            "SELECT * FROM claim_executions($1, $2, $3, $4, $5, $6, $7)",
            "own_2",
            [wanted.request_id],
            [wanted.execution_id],
            [wanted.digest],
            [wanted.tool],
            [wanted.version],
            ["all"],
        )
        setting = asyncio.create_task(set_stop(control, "all"))
        await somebody_waits_for_the_lock(db)
        assert not setting.done()
    await setting


async def test_after_a_stop_no_claim_in_its_scope_succeeds_until_it_is_lifted(db: Database) -> None:
    one, two, control = Executions(db, "own_1"), Executions(db, "own_2"), ControlStore(db)
    acknowledged = asyncio.Event()
    verdicts: list[str] = []

    async def claim_on(executions: Executions) -> None:
        for _ in range(40):
            after = acknowledged.is_set()
            (answer,) = await executions.claim([claim()])
            if after:
                verdicts.append(answer.verdict)

    async def stop_it() -> Stop:
        await asyncio.sleep(0.02)
        stop = await set_stop(control, "agent:bot")
        acknowledged.set()
        return stop

    stopping = asyncio.create_task(stop_it())
    await asyncio.gather(*(claim_on(executions) for executions in (one, two) for _ in range(4)), stopping)
    assert verdicts and set(verdicts) == {"stopped"}
    async with control.transaction() as connection:
        await control.lift_stop(connection, stopping.result().stop_id, "ada", now())
    assert (await one.claim([claim()]))[0].verdict == "claimed"


async def test_the_same_order_is_one_stop_and_each_is_lifted_for_itself(db: Database) -> None:
    control = ControlStore(db)
    first, same = await set_stop(control, "all"), await set_stop(control, "all")
    assert first == same
    async with control.transaction() as connection:
        wanted = first.model_copy(update={"stop_id": "stp_2", "set_by": "bob"})
        other, new = await control.set_stop(connection, wanted)
    assert new and [s.stop_id for s in await control.stops(lifted=False)] == [first.stop_id, other.stop_id]
    async with control.transaction() as connection:
        lifted, done = await control.lift_stop(connection, first.stop_id, "ada", now())
        again, twice = await control.lift_stop(connection, first.stop_id, "eve", now())
        assert await control.covering(connection, ["all"]) is not None
        assert (await control.lift_stop(connection, "stp_none", "ada", now()))[0] is None
    assert done and not twice and lifted == again and lifted is not None and lifted.revision == 2
    assert (await set_stop(control, "all")).stop_id != first.stop_id


async def test_signs_of_life_run_out(db: Database) -> None:
    one, two = Executions(db, "own_1"), Executions(db, "own_2")
    await one.show_life()
    async with two.transaction() as connection:
        assert await two.lives(connection, "own_1", 5)
        assert not await two.lives(connection, "own_1", 0)
        assert not await two.lives(connection, "own_2", 5)
        assert not await two.lives(connection, None, 5)
    assert await two.others_live(5)
    assert not await two.others_live(0)
    assert not await one.others_live(5)
    await one.say_goodbye()
    async with two.transaction() as connection:
        assert not await two.lives(connection, "own_1", 5)


async def somebody_waits_for_the_lock(db: Database) -> None:
    async with asyncio.timeout(5):
        while True:
            if await db.pool.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
                return
            await asyncio.sleep(0.01)
