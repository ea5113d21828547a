"""Facts are asked of the executor before the decision; no answer is a denial."""

from __future__ import annotations

import asyncio

from countersign_contracts.actions import Action, ActionDenied, ActionGranted, Reason
from countersign_contracts.commands import Facts, LookUpFacts
from countersign_contracts.errors import Refused

from .conftest import Rig, make_action


def email(customer: int = 1, **overrides: object) -> Action:
    return make_action(tool="send_email", args={"customer_id": customer, "body": "hello"}, **overrides)


class Executor:
    """Answers lookups as told."""

    def __init__(self) -> None:
        self.asked: list[LookUpFacts] = []
        self.was_asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.answer.set()
        self.contacted = {2}

    async def look_up(self, command: LookUpFacts) -> Facts:
        self.asked.append(command)
        self.was_asked.set()
        await self.answer.wait()
        if command.args["customer_id"] == 13:
            raise Refused("no such customer")
        if command.args["customer_id"] in self.contacted:
            return Facts()
        return Facts(denials=(Reason(code="do_not_contact", message="customer must not be contacted"),))


async def executor(rig: Rig) -> Executor:
    double = Executor()
    await rig.executor.answer(LookUpFacts, double.look_up)
    return double


async def codes(rig: Rig, action: Action) -> list[str]:
    await rig.request(action)
    event = await rig.ended(action)
    assert isinstance(event, ActionDenied)
    return [r.code for r in event.decision.reasons]


async def test_a_fact_denies(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    double = await executor(rig)
    action = email(1)
    assert await codes(rig, action) == ["fact"]
    assert double.asked == [
        LookUpFacts(request_id=action.request_id, tool="send_email", tool_version=1, args=action.args)
    ]


async def test_facts_are_checked_again_when_the_action_is_approved(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    double = await executor(rig)
    granted, changed = await rig.hold(email(2), email(2))
    await rig.resolve(granted)
    assert isinstance(await rig.heard(f"{granted.action.request_id}.granted"), ActionGranted)
    double.contacted.clear()
    await rig.resolve(changed)
    event = await rig.heard(f"{changed.action.request_id}.denied")
    assert isinstance(event, ActionDenied)
    assert [r.code for r in event.decision.reasons] == ["fact"]
    assert len(double.asked) == 4


async def test_no_executor_is_a_denial_with_the_reason(rig: Rig) -> None:
    await rig.service(facts_patience_s=0.3)
    await rig.apply()
    assert await codes(rig, email()) == ["facts_unavailable"]


async def test_a_lookup_that_fails_is_a_denial(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    await executor(rig)
    action = email(13)
    assert await codes(rig, action) == ["facts_unavailable"]


async def test_an_executor_that_is_back_in_time_is_asked(rig: Rig) -> None:
    await rig.service(facts_patience_s=10)
    await rig.apply()
    action = email(2)
    await rig.request(action)
    await executor(rig)
    await rig.heard(f"{action.request_id}.held")


async def test_a_slow_lookup_holds_up_no_other_action(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    double = await executor(rig)
    double.answer.clear()
    slow, quick = email(2), make_action()
    await rig.request(slow, quick)
    await rig.heard(f"{quick.request_id}.granted")
    assert f"{slow.request_id}.held" not in rig.bodies
    double.answer.set()
    await rig.heard(f"{slow.request_id}.held")


async def test_what_waits_for_facts_is_given_back_at_stop(rig: Rig) -> None:
    first = await rig.service()
    await rig.apply()
    double = await executor(rig)
    double.answer.clear()
    action = email(2)
    await rig.request(action)
    async with asyncio.timeout(5):
        await double.was_asked.wait()
    await first.stop()
    double.answer.set()
    await rig.service()
    await rig.heard(f"{action.request_id}.held", timeout_s=5)


async def test_what_was_decided_is_told_again_without_another_lookup(rig: Rig) -> None:
    await rig.service()
    await rig.apply()
    double = await executor(rig)
    action = email(2)
    (held,) = await rig.hold(action)
    await rig.request(action, attempt="again")
    await rig.heard(held.event_id(), times=2)
    assert len(double.asked) == 1
