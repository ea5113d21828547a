"""A dead letter handled again by its own service: verified as the first time, on nobody's word but that service's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from countersign_chassis import Bus, Delivery, Service, ServiceSettings
from countersign_chassis.consumer import KEPT_BODY, KEPT_HEADERS
from countersign_chassis.stored import StoredMessage, StoredMessages
from countersign_contracts.actions import Action, ActionRequested
from countersign_contracts.canonical import action_digest
from countersign_contracts.control import DeadLettered
from countersign_contracts.dead_letter_commands import REDRIVES, RedriveAtPolicy, Redriven
from countersign_contracts.envelope import Envelope, open_event, seal_event
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import new_id
from countersign_contracts.model import now
from countersign_contracts.topology import CONSUMERS

SUBJECT = "deadletter.ACTIONS.policy-actions"


def requested(n: int) -> ActionRequested:
    parts: dict[str, Any] = {"principal_chain": (), "env": "prod", "tool": "t", "tool_version": 1, "args": {"n": n}}
    digest = action_digest(agent="worker-1", session=None, **parts)
    action = Action(request_id=new_id(), agent_id="worker-1", digest=digest, requested_at=now(), **parts)
    return ActionRequested(action=action, channel="http", credential_id="c")


class Policy:
    """Consumes as policy does; ``wrong`` is what its handler raises, ``keep`` has it settle later."""

    def __init__(self, stack: Any) -> None:
        self.service = Service("policy", ServiceSettings(**stack.settings("policy"), log_level="error"))
        self.service.consume("policy-actions", self.handle, max_tries=1)
        self.wrong: Exception | None = RuntimeError("a fault of its code")
        self.handled: list[Delivery] = []
        self.keep = False

    async def handle(self, batch: list[Delivery]) -> None:
        if self.wrong is not None:
            raise self.wrong
        self.handled += batch
        if self.keep:
            for delivery in batch:
                delivery.detach()


class Scene:
    """Policy, and the gateway's view of the dead letters."""

    def __init__(self, stack: Any, policy: Policy, gateway: Bus) -> None:
        self.stack, self.policy, self.gateway = stack, policy, gateway
        self.stored = StoredMessages(gateway.connection, "DEADLETTER")

    async def letter(self, after: int = 0) -> tuple[StoredMessage, DeadLettered]:
        """The first dead letter after a sequence."""
        async with asyncio.timeout(15):
            while (found := await self.stored.next(after + 1, SUBJECT)) is None:
                await asyncio.sleep(0.02)
        event = open_event(Envelope.read(found.headers, found.body), self.stack.trust())
        assert isinstance(event, DeadLettered)
        return found, event

    async def redrive(self, letter: StoredMessage) -> Redriven:
        answer: Redriven = await self.gateway.ask(RedriveAtPolicy(headers=letter.headers, body=letter.body.decode()))
        return answer


@pytest_asyncio.fixture
async def scene(stack: Any) -> AsyncIterator[Scene]:
    policy, gateway = Policy(stack), await stack.bus("gateway")
    await policy.service.start()
    yield Scene(stack, policy, gateway)
    await policy.service.stop()


def test_whoever_consumes_answers_for_its_dead_letters() -> None:
    assert set(REDRIVES) == {each.service for each in CONSUMERS}


async def test_the_message_reaches_the_same_handler_as_it_did_the_first_time(scene: Scene) -> None:
    event = requested(1)
    await scene.gateway.publish(event)
    found, letter = await scene.letter()
    scene.policy.wrong = None
    assert await scene.redrive(found) == Redriven(outcome="handled")
    (delivery,) = scene.policy.handled
    assert delivery.event == event and delivery.envelope.id == event.event_id()
    assert (delivery.stream, delivery.stream_seq, delivery.subject) == ("ACTIONS", 1, "actions.requested.worker-1")
    assert delivery.tries == letter.tries + 1 and delivery.stored_at == letter.stored_at


async def test_what_fails_again_is_a_dead_letter_again_with_one_more_try(scene: Scene) -> None:
    await scene.gateway.publish(requested(1))
    found, letter = await scene.letter()
    scene.policy.wrong = RuntimeError("another fault")
    redriven = await scene.redrive(found)
    assert (redriven.outcome, redriven.reason, redriven.tries) == ("failed", "RuntimeError: another fault", 2)
    again, second = await scene.letter(found.seq)
    assert second.event_id() == redriven.letter and second.reason == redriven.reason
    assert (second.tries, second.body, second.headers) == (letter.tries + 1, letter.body, letter.headers)
    scene.policy.wrong = None
    assert (await scene.redrive(again)).outcome == "handled"
    assert scene.policy.handled[0].tries == 3


async def test_an_outage_puts_it_off_and_is_no_try(scene: Scene) -> None:
    await scene.gateway.publish(requested(1))
    found, _ = await scene.letter()
    scene.policy.wrong = ConnectionRefusedError("the database is away")
    redriven = await scene.redrive(found)
    assert (redriven.outcome, redriven.letter) == ("postponed", None) and "database" in str(redriven.reason)
    assert await scene.stored.next(found.seq + 1, SUBJECT) is None


@pytest.mark.parametrize(("settle", "outcome"), [("ack", "handled"), ("nak", "postponed"), ("dead", "failed")])
async def test_a_handler_that_settles_later_is_waited_for(scene: Scene, settle: str, outcome: str) -> None:
    await scene.gateway.publish(requested(1))
    found, _ = await scene.letter()
    scene.policy.wrong, scene.policy.keep = None, True
    asked = asyncio.create_task(scene.redrive(found))
    async with asyncio.timeout(5):
        while not scene.policy.handled:
            await asyncio.sleep(0.01)
    assert not asked.done()
    await getattr(scene.policy.handled[0], settle)(*(["it is no good"] if settle == "dead" else []))
    assert (await asked).outcome == outcome


async def test_a_letter_that_the_service_did_not_sign_is_not_handled(scene: Scene) -> None:
    """The gateway passes letters on. It could alter one, write one, or pass on another's."""
    await scene.gateway.publish(requested(1))
    found, letter = await scene.letter()
    scene.policy.wrong = None
    forged = letter.model_copy(update={"subject": "actions.granted.worker-1"})
    by_executor = seal_event(forged, time=now(), key=scene.stack.key("executor"))
    by_gateway = seal_event(requested(2), time=now(), key=scene.stack.key("gateway"))
    for altered, says in (
        (replace(found, body=found.body.replace(b'"tries":1', b'"tries":2')), "signature"),
        (replace(found, headers=by_executor.headers(), body=by_executor.body), "no dead letter of policy's"),
        (replace(found, headers=by_gateway.headers(), body=by_gateway.body), "no dead letter of policy's"),
    ):
        with pytest.raises(CountersignError, match=says):
            await scene.redrive(altered)
    assert scene.policy.handled == []


async def test_a_message_whose_own_signature_does_not_hold_fails_again(scene: Scene) -> None:
    scene.policy.wrong = None
    sealed = scene.gateway.seal(requested(1))
    forged = replace(sealed, body=sealed.body.replace(b'"n":1', b'"n":2'))
    await scene.gateway.publish_sealed([("actions.requested.worker-1", "ACTIONS", forged)])
    found, letter = await scene.letter()
    redriven = await scene.redrive(found)
    assert redriven.outcome == "failed" and redriven.reason == letter.reason and "signature" in letter.reason
    assert scene.policy.handled == []


async def test_of_what_is_too_large_to_keep_the_letter_says_so_and_it_is_not_redriven(scene: Scene) -> None:
    scene.policy.wrong = None
    client = scene.gateway.connection.client
    await client.publish("actions.requested.worker-1", b"x" * (KEPT_BODY + 1))
    await client.publish("actions.requested.worker-1", b"", headers={"a": "x" * 100, "b": "y" * KEPT_HEADERS})
    large, first = await scene.letter()
    _, second = await scene.letter(large.seq)
    assert first.truncated and second.truncated and list(second.headers) == ["a"]
    with pytest.raises(CountersignError, match="not kept whole in its dead letter"):
        await scene.redrive(large)
