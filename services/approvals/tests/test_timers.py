"""What happens to approvals by themselves, on real servers: in time, once, and not lost by a restart."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from countersign_approvals.store import Store
from countersign_chassis import Failpoints
from countersign_contracts.model import now

from .conftest import Scene, held, vote

RULE = """
kind: approval_rule
name: timed
stages: [{name: one, approvers: ["group:nobody"]}]
remind_after_s: [1]
escalate: [{after_s: 2, to: ["person:alice"]}]
deadline_s: 3
at_deadline: pause
"""


async def test_reminders_escalations_and_a_deadline_that_pauses_come_once_by_any_replica(scene: Scene) -> None:
    service = await scene.start()
    await scene.apply(RULE)
    event = await scene.hold()
    await scene.refused(vote(event), "not_entitled")
    events = await scene.told("overdue", about=event.approval_id)
    kinds = [e.spec.name for e in events if e.spec.name != "vote_refused"]
    assert kinds == ["requested", "reminded", "escalated", "overdue"]
    due = events[0].requested_at
    for each, after_s in zip((e for e in events if e.spec.name in ("reminded", "escalated")), (1, 2), strict=True):
        at = each.reminded_at if each.spec.name == "reminded" else each.escalated_at
        assert timedelta(0) <= at - due - timedelta(seconds=after_s) < timedelta(seconds=2)
    used = [(await Store(service.db).ages(due + timedelta(seconds=after_s))).used for after_s in (0, 1.5, 6)]
    assert used == pytest.approx([0, 0.5, 2]), "of the three seconds there are"
    view = await scene.known(event, lambda v: v.overdue)
    assert view.state == "pending" and view.escalated_to == ("person:alice",)
    assert view.waits_for == ("1 of group:nobody or person:alice",) and view.stages[0].people == ("alice",)
    view = await scene.gateway.ask(vote(event))
    assert view.state == "approved" and not view.overdue
    assert (await Store(service.db).ages(now())).used == 0


async def test_a_restart_loses_no_timer(offstage: Scene) -> None:
    first = await offstage.start()
    await offstage.apply(RULE.replace("at_deadline: pause", "at_deadline: deny"))
    event = await offstage.hold()
    await first.stop()
    await asyncio.sleep(3.2)  # everything comes due while nobody is there
    began = now()
    await offstage.start()
    events = await offstage.told("resolved", about=event.approval_id)
    assert events[-1].state == "expired" and events[-1].resolved_at - began < timedelta(seconds=10)


async def test_what_came_due_is_told_after_a_crash(offstage: Scene) -> None:
    async def die() -> None:
        raise RuntimeError("killed here")

    dying = await offstage.start(Failpoints({"approvals.after_timer_before_publish": die}))
    event = await offstage.hold(held(deadline_s=1))
    await offstage.known(event, lambda v: v.state == "expired")
    await dying.stop()
    await offstage.start(leftovers_poll_s=0.1)
    assert [e.spec.name for e in await offstage.told("resolved", about=event.approval_id)] == ["requested", "resolved"]


async def test_a_vote_beats_the_clock_or_comes_too_late_and_never_both(scene: Scene) -> None:
    await scene.start()
    events = [await scene.hold(held(deadline_s=1)) for _ in range(10)]
    views = [await scene.known(event) for event in events]
    await asyncio.sleep(max(0.0, (views[-1].deadline - now()).total_seconds() - 0.05))
    answers = await asyncio.gather(*(scene.gateway.ask(vote(event)) for event in events), return_exceptions=True)
    resolved = await scene.told("resolved", len(events))
    states = {e.approval_id: e.state for e in resolved if e.spec.name == "resolved"}
    for event, answer in zip(events, answers, strict=True):
        assert (states[event.approval_id] == "approved") is not isinstance(answer, Exception)
