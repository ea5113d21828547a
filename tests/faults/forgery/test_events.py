"""Every event there is, altered in turn, signed by another service, and replayed: believed by nobody, and shown.

The forger here has the NATS credentials of the very service whose event it is, so the server lets everything through:
only the signatures stand in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from countersign_contracts.event import EVENTS
from countersign_harness.forging import Forgery, Message, altered_in_turn, consumers_of, signed_by_others

if TYPE_CHECKING:
    from .conftest import Scene

#: Types that the scene must bring about: all that a service acts on, and audit's own.
ACTED_ON = {kind.spec.type for kind in EVENTS.values() if consumers_of(kind.spec.subject.format(token="mallory"))} - {
    # these two need an executor that fails
    "countersign.actions.started.v1",
    "countersign.actions.reconciled.v1",
    "countersign.actions.refused.v1",
    # these need a rule with stages, and time that passes; they are told on, and decide nothing
    "countersign.approvals.advanced.v1",
    "countersign.approvals.escalated.v1",
    "countersign.approvals.overdue.v1",
    "countersign.approvals.reminded.v1",
    "countersign.approvals.vote_voided.v1",
}


async def nobody_believes(scene: Scene, forge: Callable[[Message], Iterable[Forgery]]) -> int:
    """Publish every forgery of every event; how many there were."""
    originals = await scene.bench.every_event()
    assert {m.headers["ce-type"] for m in originals} >= ACTED_ON
    calls, states = list(scene.world.downstream.calls), await scene.states()
    planted: dict[str, dict[int, Forgery]] = {}
    for original in originals:
        taken = await scene.bench.publish(original.service, list(forge(original)))
        planted.setdefault(original.stream, {}).update(taken)
    await scene.bench.settled()

    assert scene.world.downstream.calls == calls
    assert await scene.states() == states
    for stream, forgeries in planted.items():
        shown = await scene.bench.recorded_as("unverified", stream)
        assert not {f"{f.how} on {f.subject}" for seq, f in forgeries.items() if seq not in shown}
        assert all(shown[seq]["reason"] for seq in forgeries)
        for consumer in {c for f in forgeries.values() for c in consumers_of(f.subject)}:
            refused = await scene.bench.dead_letters(consumer)
            read = {s: f for s, f in forgeries.items() if consumer in consumers_of(f.subject)}
            if consumer.name == "gateway-progress":  # which passes over unread what says it is of an ended action
                ended = {id for name, id in scene.actions.items() if name != "held"}
                read = {s: f for s, f in read.items() if f.headers.get("ce-subject") not in ended}
            assert not {f"{f.how} on {f.subject}, by {consumer.name}" for s, f in read.items() if not refused.get(s)}
    return sum(map(len, planted.values()))


async def test_no_altered_event_is_believed(scene: Scene) -> None:
    assert await nobody_believes(scene, altered_in_turn) > 300


async def test_no_event_signed_by_another_service_is_believed(scene: Scene) -> None:
    assert await nobody_believes(scene, lambda original: signed_by_others(original, scene.keys)) > 150


async def test_a_replayed_event_changes_nothing_and_is_on_record_as_a_repeat(scene: Scene) -> None:
    calls, states = list(scene.world.downstream.calls), await scene.states()
    originals = [m for s in ("ACTIONS", "APPROVALS", "FLEET", "CONTROL") for m in await scene.bench.messages(s)]
    for original in originals:
        as_it_was = Forgery("replayed", original.subject, original.headers, original.body)
        taken = await scene.bench.publish(original.service, [as_it_was])
        await scene.bench.settled()
        shown = await scene.bench.recorded_as("repeated", original.stream)
        assert taken.keys() <= shown.keys(), original.kind
    assert scene.world.downstream.calls == calls
    assert await scene.states() == states


async def test_an_event_on_another_s_subject_is_not_of_that_action_or_agent(scene: Scene) -> None:
    """What is signed counts, never the subject it stands on."""
    calls, states = list(scene.world.downstream.calls), await scene.states()
    for original in await scene.bench.every_event():
        if original.stream in ("ACTIONS", "APPROVALS"):
            elsewhere = original.subject.rsplit(".", 1)[0] + ".worker-2"
            moved = Forgery("on another's subject", elsewhere, original.headers, original.body)
            await scene.bench.publish(original.service, [moved])
    await scene.bench.settled()
    assert scene.world.downstream.calls == calls
    assert await scene.states() == states
    assert not (await scene.world.ok("GET", "/api/v1/actions?agent_id=worker-2"))["items"]
