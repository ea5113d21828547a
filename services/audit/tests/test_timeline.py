"""The timeline: every way to ask, page by page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from countersign_contracts.commands import ReadTimeline, Timeline
from countersign_contracts.control import Stop, StopSet
from countersign_contracts.envelope import seal_event
from countersign_harness.stack import Stack

AT = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


class Recorded:
    """A ledger of twelve actions: two agents, three sessions, an hour apart, and a stop of one agent."""

    def __init__(self, stack: Stack, asking: Any) -> None:
        self.stack, self.asking = stack, asking
        self.events: list[Any] = []

    async def make(self, make: Any) -> None:
        await self.stack.service("audit", checkpoint_interval_s=3600)
        messages = []
        for n in range(12):
            action = make.action(f"agent-{n % 2}", f"run-{n % 3}" if n else None, ticket=n)
            for by, event in (("gateway", make.requested(action)), ("policy", make.granted(action))):
                envelope = seal_event(event, time=AT + timedelta(hours=n), key=self.stack.key(by))
                messages.append((by, event, envelope))
        for by, event, envelope in messages:
            bus = await self.asking.bus(by)
            await bus.publish_sealed([(event.nats_subject(), "ACTIONS", envelope)])
        stop = StopSet(stop=Stop(stop_id="stop_1", scope="agent:agent-1", reason="r", set_by="ann", set_at=AT))
        await (await self.asking.bus("executor")).publish(stop)
        self.events = [event for _, event, _ in messages]
        await self.asking.receipt(*(e.event_id() for e in self.events), stop.event_id())

    async def ask(self, **asked: Any) -> Timeline:
        timeline: Timeline = await (await self.asking.bus("gateway")).ask(ReadTimeline(**asked))
        return timeline

    async def kinds(self, **asked: Any) -> list[str]:
        return [item.kind for item in (await self.ask(**asked)).items]


@pytest.fixture
async def recorded(stack: Stack, asking: Any, make: Any) -> Recorded:
    ledger = Recorded(stack, asking)
    await ledger.make(make)
    return ledger


async def test_every_way_to_ask(recorded: Recorded) -> None:
    """One ledger, since it takes a while to make."""
    everything = await recorded.ask()
    assert [item.seq for item in everything.items] == list(range(1, 26))
    assert everything.next is None
    first = everything.items[0]
    action = recorded.events[0].action
    assert (first.kind, first.source, first.agent_id, first.session_id, first.request_id) == (
        "actions.requested",
        "/countersign/gateway",
        "agent-0",
        None,
        action.request_id,
    )
    assert first.at == AT
    assert first.recorded_at > AT
    assert first.body["action"]["args"] == {"ticket": 0}
    assert first.event_id == f"{action.request_id}.requested"
    assert len(first.hash) == 64

    assert await recorded.kinds(request_id=action.request_id) == ["actions.requested", "actions.granted"]
    assert len(await recorded.kinds(agent_id="agent-0")) == 12
    assert (await recorded.kinds(agent_id="agent-1")).count("control.stop_set") == 1
    assert len(await recorded.kinds(session_id="run-1")) == 8
    assert await recorded.kinds(session_id="run-1", kind="actions.g") == ["actions.granted"] * 4
    assert await recorded.kinds(kind="control.") == ["control.stop_set"]
    assert await recorded.kinds(kind="%") == []
    assert await recorded.kinds(kind="control_") == []
    assert await recorded.kinds(agent_id="nobody") == []

    hours = {"since": AT + timedelta(hours=3), "until": AT + timedelta(hours=5)}
    assert [i.body["action"]["args"]["ticket"] for i in (await recorded.ask(**hours)).items] == [3, 3, 4, 4]
    assert len(await recorded.kinds(since=AT + timedelta(hours=11))) == 3, "the stop is of now"

    newest = await recorded.ask(newest_first=True, limit=10)
    assert [i.seq for i in newest.items] == list(range(25, 15, -1))
    older = await recorded.ask(newest_first=True, limit=10, after=newest.next)
    assert [i.seq for i in older.items] == list(range(15, 5, -1))

    seen: list[int] = []
    after = 0
    while True:
        page = await recorded.ask(agent_id="agent-0", limit=5, after=after)
        seen += [item.seq for item in page.items]
        if page.next is None:
            break
        after = page.next
    assert seen == [item.seq for item in everything.items if item.agent_id == "agent-0"]


async def test_large_bodies_fit_into_a_page_or_are_left_out(stack: Stack, make: Any, asking: Any) -> None:
    await stack.service("audit", checkpoint_interval_s=3600)
    policy = await asking.bus("policy")
    events = [make.granted(warrant="w" * size) for size in [100_000] * 12 + [600_000]]
    for event in events:
        await policy.publish(event)
    await asking.receipt(*(e.event_id() for e in events))
    gateway = await asking.bus("gateway")
    items: list[Any] = []
    page = await gateway.ask(ReadTimeline())
    while True:
        items += page.items
        if page.next is None:
            break
        page = await gateway.ask(ReadTimeline(after=page.next))
    assert [i.event_id for i in items] == [e.event_id() for e in events]
    assert all("warrant" in i.body for i in items[:-1])
    left_out = items[-1].body
    assert left_out["left_out"] == "too large to show"
    assert left_out["bytes"] > 600_000
    assert len(left_out["sha256"]) == 64


async def test_a_tampered_entry_is_shown_as_it_is(stack: Stack, make: Any, asking: Any) -> None:
    """To show it is not to vouch for it; it must not hide the rest."""
    await stack.service("audit", checkpoint_interval_s=3600)
    events = [make.granted() for _ in range(3)]
    await (await asking.bus("policy")).publish_all([(e, None) for e in events])
    await asking.receipt(*(e.event_id() for e in events))
    await asking.sql("UPDATE entries SET body = 'no json', recorded_at = 'never' WHERE seq = 2")
    items = (await (await asking.bus("gateway")).ask(ReadTimeline())).items
    assert [i.seq for i in items] == [1, 2, 3]
    assert items[1].body["left_out"] == "not a JSON object"
