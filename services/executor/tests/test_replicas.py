"""Two executors on one database: a stop set through one holds for what the other has claimed already (promise 9)."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from countersign_chassis import Database
from countersign_chassis.logs import logger
from countersign_contracts.actions import Action, ActionGranted, ActionStarted
from countersign_contracts.commands import LiftStop, SetStop
from countersign_contracts.fleet import AgentRecord
from countersign_contracts.model import now
from countersign_executor.admission import Admitted, admit
from countersign_executor.announcer import Announcer
from countersign_executor.caller import Called, Caller, Withheld
from countersign_executor.calling import Ended, Held, NotStarted, Performer
from countersign_executor.control import Control
from countersign_executor.control_store import ControlStore
from countersign_executor.executions import Claim, Executions
from countersign_executor.outcome import Attempt
from countersign_executor.pulse import Pulse
from countersign_executor.request import HttpRequest
from countersign_executor.stops import Stops
from countersign_ledger import SigningKey, TrustBundle

LEASE_S = 0.3
LOG = logger("test", "error")


class Silence:
    """An announcer without a bus."""

    async def tell(self, bucket: str | None = None, *, within_s: float = 1.0) -> None:
        pass


class OneCall:
    """A caller whose only try starts when the test says so, if the gate lets it."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.calls = 0

    async def call(self, tool: Any, request: Any, headers: Any, gate: Callable[[], Any]) -> Called:
        await self.go.wait()
        try:
            await gate()
        except Withheld as withheld:
            return Called([], withheld)
        self.calls += 1
        return Called([Attempt("not_sent")])


async def nothing() -> None:
    pass


class Replica:
    """One executor's part in claiming, stopping and calling."""

    def __init__(self, db: Database, owner: str) -> None:
        self.executions = Executions(db, owner)
        self.store = ControlStore(db)
        self.stops = Stops()
        self.control = Control(
            self.store, self.executions, self.stops, cast(Announcer, Silence()), lease_s=LEASE_S, log=LOG
        )
        self.pulse = Pulse(self.executions, self.store, self.stops, nothing, interval_s=60)
        self.caller = OneCall()

        async def announce(event: ActionStarted, traceparent: str | None) -> None:
            pass

        self.performer = Performer(
            cast(Caller, self.caller),
            self.executions,
            self.pulse,
            self.stops,
            announce,
            lease_s=LEASE_S,
            started_after_s=60,
            log=LOG,
        )

    async def alive(self) -> "Replica":
        await self.pulse.beat()
        return self

    async def claim(self, admitted: Admitted) -> Held:
        action = admitted.action
        claim = Claim(action.request_id, "exe_1", action.digest, action.tool, action.tool_version, admitted.scopes)
        (claimed,) = await self.executions.claim([claim])
        assert claimed.verdict == "claimed"
        return Held(action.request_id, "exe_1", claimed.fence, interrupted_before=False)

    async def perform(self, admitted: Admitted, held: Held) -> Ended | NotStarted:
        return await self.performer.perform(admitted, HttpRequest("GET", "http://h/", None), {}, held, None)


@pytest.fixture
def admitted(
    record: Any,
    trust: TrustBundle,
    policy_key: SigningKey,
    make_action: Callable[..., Action],
    make_agent: Callable[..., AgentRecord],
    make_grant: Callable[..., ActionGranted],
) -> Admitted:
    grant = make_grant(policy_key, make_action())
    return admit(grant, tool=record, agent=make_agent(), trust=trust, at=now())


def order(scope: str = "env:prod") -> SetStop:
    return SetStop(scope=scope, reason="fire", by="ada")


async def test_a_call_that_starts_after_the_acknowledgement_is_held_back(db: Database, admitted: Admitted) -> None:
    one, two = await Replica(db, "own_1").alive(), await Replica(db, "own_2").alive()
    held = await one.claim(admitted)
    performing = asyncio.create_task(one.perform(admitted, held))
    await two.control.set_stop(order())
    one.caller.go.set()
    ended = await performing
    assert isinstance(ended, Ended) and ended.state == "refused"
    assert one.caller.calls == 0


async def test_the_acknowledgement_waits_until_no_unaware_executor_can_start_a_call(
    db: Database, admitted: Admitted
) -> None:
    one, two = await Replica(db, "own_1").alive(), await Replica(db, "own_2").alive()
    held = await one.claim(admitted)
    began = asyncio.get_running_loop().time()
    setting = asyncio.create_task(two.control.set_stop(order()))
    await asyncio.sleep(0.05)
    one.caller.go.set()
    await one.perform(admitted, held)
    assert one.caller.calls == 1  # it did not know, and nobody was told yet that it may not
    assert not setting.done()
    await setting
    assert asyncio.get_running_loop().time() - began >= LEASE_S


async def test_an_executor_alone_acknowledges_at_once(db: Database, admitted: Admitted) -> None:
    dead, one = await Replica(db, "own_0").alive(), await Replica(db, "own_1").alive()
    await db.pool.execute("UPDATE owners SET seen_at = seen_at - interval '1 s' WHERE owner = 'own_0'")
    await one.claim(admitted)
    began = asyncio.get_running_loop().time()
    await one.control.set_stop(order())
    assert asyncio.get_running_loop().time() - began < LEASE_S
    assert dead.stops.covering(["env:prod"]) is None


async def test_an_executor_that_comes_back_from_the_dead_looks_before_it_calls(
    db: Database, admitted: Admitted
) -> None:
    """It was silent, so nobody waited for it: the gate must not trust what it read before."""
    one, two = await Replica(db, "own_1").alive(), await Replica(db, "own_2").alive()
    held = await one.claim(admitted)
    await asyncio.sleep(LEASE_S)
    await db.pool.execute("UPDATE owners SET seen_at = seen_at - interval '1 h' WHERE owner = 'own_1'")
    await two.control.set_stop(order())
    one.caller.go.set()
    ended = await one.perform(admitted, held)
    assert isinstance(ended, Ended) and ended.state == "refused"
    assert one.caller.calls == 0


async def test_a_silent_executor_whose_claim_is_still_its_own_calls(db: Database, admitted: Admitted) -> None:
    one = await Replica(db, "own_1").alive()
    held = await one.claim(admitted)
    await asyncio.sleep(LEASE_S)
    one.caller.go.set()
    assert isinstance(await one.perform(admitted, held), Ended)
    assert one.caller.calls == 1
    assert one.pulse.age_s() < LEASE_S


async def test_a_silent_executor_whose_claim_was_taken_over_calls_nothing(db: Database, admitted: Admitted) -> None:
    one, two = await Replica(db, "own_1").alive(), Replica(db, "own_2")
    held = await one.claim(admitted)
    async with two.executions.transaction() as connection:
        await two.executions.take_over(connection, held.request_id, 2)
    await asyncio.sleep(LEASE_S)
    one.caller.go.set()
    assert await one.perform(admitted, held) == NotStarted("the claim was taken over")
    assert one.caller.calls == 0


async def test_an_executor_that_cannot_look_at_the_stops_calls_nothing(db: Database, admitted: Admitted) -> None:
    one = await Replica(db, "own_1").alive()
    held = await one.claim(admitted)
    await asyncio.sleep(LEASE_S)
    one.caller.go.set()
    await db.close()
    ended = await one.perform(admitted, held)
    assert isinstance(ended, NotStarted) and "cannot be read" in ended.reason
    assert one.caller.calls == 0


@pytest.mark.parametrize("under_a_stop", [True, False])
async def test_an_interrupted_execution_that_may_not_be_tried_again_is_unknown_only_under_a_stop(
    db: Database, admitted: Admitted, under_a_stop: bool
) -> None:
    one = await Replica(db, "own_1").alive()
    held = replace(await one.claim(admitted), interrupted_before=True)
    if under_a_stop:
        await one.control.set_stop(order())
    else:
        await asyncio.sleep(LEASE_S)
        await db.close()
    one.caller.go.set()
    ended = await one.perform(admitted, held)
    if under_a_stop:
        assert isinstance(ended, Ended) and ended.state == "unknown"
    else:
        assert isinstance(ended, NotStarted)
    assert one.caller.calls == 0


async def test_a_stop_set_or_lifted_through_one_is_soon_so_for_the_other(db: Database) -> None:
    one, two = await Replica(db, "own_1").alive(), await Replica(db, "own_2").alive()
    stop = await one.control.set_stop(order())
    await two.pulse.beat()
    assert two.stops.covering(["env:prod"]) == stop
    await two.control.lift_stop(LiftStop(stop_id=stop.stop_id, by="bob"))
    assert one.stops.covering(["env:prod"]) == stop
    await one.pulse.beat()
    assert one.stops.covering(["env:prod"]) is None


async def test_a_stop_that_is_set_while_the_stops_are_read_is_not_forgotten(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await Replica(db, "own_1").alive()
    read = one.store.stops

    async def read_then_stop(*, lifted: bool) -> Any:
        stops = await read(lifted=lifted)
        if not one.stops.generation:
            await one.control.set_stop(order())
        return stops

    monkeypatch.setattr(one.store, "stops", read_then_stop)
    await one.pulse.beat()
    assert one.stops.covering(["env:prod"]) is not None
