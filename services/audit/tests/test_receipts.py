"""Receipts: given as soon as an event is committed, never before, and never for what is not believed."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from countersign_chassis import Failpoints
from countersign_harness.stack import Stack


async def test_a_receipt_waits_for_the_event(stack: Stack, make: Any, asking: Any) -> None:
    await stack.service("audit")
    event = make.granted()
    policy = await asking.bus("policy")
    asked = asyncio.create_task(asking.receipt(event.event_id()))
    done, _ = await asyncio.wait([asked], timeout=0.3)
    assert not done
    await policy.publish(event)
    assert (await asked).event_ids == (event.event_id(),)


async def test_nothing_is_confirmed_before_it_is_committed(stack: Stack, make: Any, asking: Any) -> None:
    reached, release = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await release.wait()

    await stack.service("audit", Failpoints({"audit.before_commit": hold}))
    event = make.granted()
    await (await asking.bus("policy")).publish(event)
    async with asyncio.timeout(5):
        await reached.wait()
    assert (await asking.receipt(event.event_id(), wait_s=0.3)).event_ids == ()
    assert await asking.sql("SELECT FROM entries") == []
    release.set()
    assert (await asking.receipt(event.event_id())).event_ids == (event.event_id(),)
    assert len(await asking.sql("SELECT FROM entries")) == 1


async def test_what_does_not_come_in_time_is_left_out(stack: Stack, make: Any, asking: Any) -> None:
    await stack.service("audit")
    here, missing = make.granted(), make.granted()
    await (await asking.bus("policy")).publish(here)
    assert (await asking.receipt(here.event_id())).event_ids == (here.event_id(),)
    began = monotonic()
    receipt = await asking.receipt(missing.event_id(), here.event_id(), wait_s=0.4)
    assert receipt.event_ids == (here.event_id(),)
    assert 0.4 <= monotonic() - began < 20, "loosely: when it was to come"


async def test_they_are_told_in_the_order_asked(stack: Stack, make: Any, asking: Any) -> None:
    await stack.service("audit")
    events = [make.granted() for _ in range(20)]
    await (await asking.bus("policy")).publish_all([(e, None) for e in events])
    ids = tuple(e.event_id() for e in reversed(events))
    assert (await asking.receipt(*ids)).event_ids == ids


async def test_one_asked_for_without_waiting_is_looked_up(stack: Stack, make: Any, asking: Any) -> None:
    """What was recorded by an earlier process is known to the ledger alone."""
    audit = await stack.service("audit")
    event = make.granted()
    await (await asking.bus("policy")).publish(event)
    await asking.receipt(event.event_id())
    await audit.stop()
    await stack.service("audit")
    receipt = await asking.receipt(event.event_id(), wait_s=0)
    assert receipt.event_ids == (event.event_id(),)
    assert receipt.head >= 1


async def test_many_may_wait_for_the_same_event(stack: Stack, make: Any, asking: Any) -> None:
    await stack.service("audit")
    first, second = make.granted(), make.granted()
    await asking.bus("executor")
    asked = [asyncio.create_task(asking.receipt(first.event_id(), second.event_id())) for _ in range(5)]
    alone = asyncio.create_task(asking.receipt(first.event_id()))
    policy = await asking.bus("policy")
    await policy.publish(first)
    await alone
    assert not any(task.done() for task in asked)
    await policy.publish(second)
    assert {len((await task).event_ids) for task in asked} == {2}
