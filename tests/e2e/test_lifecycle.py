"""The life of actions against a model: whatever order people, agents and the business system act in.

Every step is taken on the whole product, and after every step each action must be in the state that the model says, and
the business system must have been called just as often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from countersign_contracts.ids import new_id

ENDED = ("succeeded", "failed", "unknown", "denied", "expired", "cancelled")
STOPS = ("all", "tool:write_thing")


class Lifecycle(RuleBasedStateMachine):
    """``world`` and ``loop`` are set before it runs: the product lives in the test's loop, the machine in a thread."""

    world: ClassVar[Any]
    loop: ClassVar[asyncio.AbstractEventLoop]
    ran: ClassVar[set[str]] = set()

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[str, str] = {}
        self.approvals: dict[str, Any] = {}
        self.bodies: dict[str, Any] = {}
        self.stops: dict[str, str] = {}
        self.paused = False
        self.calls = 0

    def do(self, action: Awaitable[Any]) -> Any:
        """Run it in the product's loop."""

        async def whole() -> Any:
            return await action

        return asyncio.run_coroutine_threadsafe(whole(), self.loop).result(30)

    @initialize()
    def begin(self) -> None:
        self.world.downstream.drop_after_effect = False
        self.world.downstream.calls.clear()
        self.write_what_needs_approval()
        self.decide(next(iter(self.states)), "approve")
        self.write_what_needs_approval()

    def teardown(self) -> None:
        self.calm()

    @rule()
    def calm(self) -> None:
        """Nothing is in the way."""
        for scope in list(self.stops):
            self.lift(scope)
        if self.paused:
            self.pause_or_resume()
        self.world.downstream.drop_after_effect = False

    # --- agents ---------------------------------------------------------------------------------------

    # what only reads is tried again where the answer was lost, which other tests are about
    @precondition(lambda self: not self.world.downstream.drop_after_effect)
    @rule()
    def read(self) -> None:
        stopped = self.paused or "all" in self.stops
        self.submitted("read_thing", {"thing_id": 1}, "dev", "denied" if stopped else "succeeded")

    @rule()
    def write_what_needs_approval(self) -> None:
        stopped = self.paused or bool(self.stops)
        request_id = self.submitted(
            "write_thing", {"thing_id": 1, "status": "x"}, "prod", "denied" if stopped else "held"
        )
        if not stopped:
            self.approvals[request_id] = self.do(self.world.approval_of(request_id))

    def submitted(self, tool: str, args: dict[str, Any], env: str, wanted: str) -> str:
        body = {"tool": tool, "args": args, "env": env, "session_id": new_id()}
        key = new_id()
        status, answer, _ = self.do(self.asked(body, key))
        assert status in (200, 202), answer
        request_id: str = answer["request_id"]
        assert self.do(self.world.until(request_id, *ENDED, "held")) == wanted
        self.states[request_id] = wanted
        self.bodies[request_id] = (body, key)
        self.calls += wanted == "succeeded"
        self.ran.add(f"{tool} {wanted}")
        return request_id

    def asked(self, body: Any, key: str) -> Awaitable[Any]:
        headers = {"Idempotency-Key": key}
        answer: Awaitable[Any] = self.world.request("POST", "/api/v1/actions", body, as_="worker-1", headers=headers)
        return answer

    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        if self.bodies:
            request_id = data.draw(st.sampled_from(sorted(self.bodies)))
            _, answer, _ = self.do(self.asked(*self.bodies[request_id]))
            assert answer["request_id"] == request_id

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.states:
            request_id = data.draw(st.sampled_from(sorted(self.states)))
            path = f"/api/v1/actions/{request_id}/cancel"
            status, answer, _ = self.do(self.world.request("POST", path, {}, as_="worker-1"))
            if self.states[request_id] in ("held", "cancelled"):
                assert (status, answer["state"]) == (200, "cancelled"), answer
                self.states[request_id] = "cancelled"
                self.ran.add("cancelled")
            else:
                assert (status, answer["type"]) == (409, "urn:countersign:problem:already_final"), answer

    # --- people ---------------------------------------------------------------------------------------

    @precondition(lambda self: "held" in self.states.values())
    @rule(data=st.data())
    def approve(self, data: st.DataObject) -> None:
        self.voted(data, "approve")

    @precondition(lambda self: "held" in self.states.values())
    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        self.voted(data, "reject")

    @precondition(lambda self: "held" in self.states.values() and self.stops)
    @rule(data=st.data())
    def lift_all_and_approve(self, data: st.DataObject) -> None:
        self.calm()
        self.voted(data, "approve")

    def voted(self, data: st.DataObject, vote: str) -> None:
        held = sorted(request_id for request_id, state in self.states.items() if state == "held")
        self.decide(data.draw(st.sampled_from(held)), vote)

    def decide(self, request_id: str, vote: str) -> None:
        status, answer = self.do(self.world.vote(self.approvals[request_id], vote))
        assert status == 200, answer
        if vote == "reject" or self.paused or self.stops:
            wanted = "denied"
        else:
            wanted = "unknown" if self.world.downstream.drop_after_effect else "succeeded"
            self.calls += 1
        assert self.do(self.world.until(request_id, *ENDED)) == wanted
        self.states[request_id] = wanted
        self.ran.add(f"{vote} {wanted}")

    @rule(data=st.data())
    def vote_too_late(self, data: st.DataObject) -> None:
        if ended := sorted(request_id for request_id in self.approvals if self.states[request_id] != "held"):
            status, answer = self.do(
                self.world.vote(self.approvals[data.draw(st.sampled_from(ended))], "approve", as_="bob")
            )
            assert status == 409, answer

    @rule(data=st.data(), outcome=st.sampled_from(["succeeded", "failed"]))
    def reconcile(self, data: st.DataObject, outcome: str) -> None:
        if not self.states:
            return
        request_id = data.draw(st.sampled_from(sorted(self.states)))
        body = {"outcome": outcome, "note": "looked it up"}
        status, answer, _ = self.do(self.world.request("POST", f"/api/v1/actions/{request_id}/reconcile", body))
        if self.states[request_id] == "unknown":
            assert status == 200, answer
            assert self.do(self.world.until(request_id, outcome)) == outcome
            self.states[request_id] = outcome
            self.ran.add("reconciled")
        else:
            assert status in (404, 409) or (status == 200 and answer["outcome"] == self.states[request_id]), answer

    @rule(scope=st.sampled_from(STOPS))
    def stop(self, scope: str) -> None:
        if scope not in self.stops:
            stop = self.do(self.world.ok("POST", "/api/v1/stops", {"scope": scope, "reason": "a drill"}))
            self.stops[scope] = stop["stop_id"]
            self.do(self.known("stops", lambda mirror: mirror.get(stop["stop_id"])))

    @rule(scope=st.sampled_from(STOPS))
    def lift(self, scope: str) -> None:
        if stop_id := self.stops.pop(scope, None):
            self.do(self.world.ok("DELETE", f"/api/v1/stops/{stop_id}"))
            self.do(self.known("stops", lambda mirror: mirror.get(stop_id).lifted_at))

    @rule()
    def pause_or_resume(self) -> None:
        self.paused = not self.paused
        verb, status = ("pause", "paused") if self.paused else ("resume", "active")
        self.do(self.world.ok("POST", f"/api/v1/agents/worker-1/{verb}", {"reason": "a look at it"}))
        self.do(self.known("agents", lambda mirror: mirror.get("worker-1").status == status))

    async def known(self, bucket: str, there: Callable[[Any], Any]) -> None:
        """Wait until policy's copy has it: denying early may lag, and the model is about what is decided."""
        (mirror,) = (each for each in self.world.services["policy"]._mirrors if each._bucket.name == bucket)
        async with asyncio.timeout(5):
            while not there(mirror):
                await asyncio.sleep(0.005)

    # --- the business system ------------------------------------------------------------------------

    @rule()
    def downstream_hangs_up_or_not(self) -> None:
        """It takes the effect, and nobody hears of it."""
        self.world.downstream.drop_after_effect = not self.world.downstream.drop_after_effect

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        for request_id, state in self.states.items():
            assert self.do(self.world.state(request_id)) == state
        assert len(self.world.downstream.calls) == self.calls


async def test_whatever_happens_an_action_s_life_is_as_modelled(world: Any) -> None:
    Lifecycle.world, Lifecycle.loop = world, asyncio.get_running_loop()
    chosen = settings(
        max_examples=6,
        derandomize=True,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.explicit, Phase.generate],
    )
    await asyncio.to_thread(run_state_machine_as_test, Lifecycle, settings=chosen)
    assert {"read_thing succeeded", "write_thing held", "approve succeeded"} <= Lifecycle.ran
    assert any(each.endswith("denied") for each in Lifecycle.ran)
