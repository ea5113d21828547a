"""When the ledger cannot be written nothing is confirmed, nothing is lost, and the health page says why."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from countersign_audit.appender import StandingBy
from countersign_chassis import Failpoints
from countersign_harness.stack import Stack

_DISK_FULL = """
CREATE FUNCTION audit.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$
"""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_full_disk_confirms_nothing_and_loses_nothing(stack: Stack, make: Any, asking: Any) -> None:
    audit = await stack.service("audit")
    policy = await asking.bus("policy")
    await asking.sql(_DISK_FULL)
    await asking.sql("CREATE TRIGGER full_disk BEFORE INSERT ON entries EXECUTE FUNCTION full_disk()")
    events = [make.granted() for _ in range(30)]
    ids = [e.event_id() for e in events]
    await policy.publish_all([(e, None) for e in events])
    assert (await asking.receipt(*ids, wait_s=1)).event_ids == ()
    (reason,) = audit.unready()
    assert reason == "ledger: the ledger cannot be written: could not extend file: No space left on device"
    assert "countersign_audit_lag_seconds 0.0" not in audit.metrics.render().decode()
    await asking.sql("DROP TRIGGER full_disk ON entries")
    assert set((await asking.receipt(*ids)).event_ids) == set(ids)
    await until(lambda: audit.unready() == [])
    report = await asking.verified()
    assert report.findings == ()
    assert await asking.sql("SELECT FROM entries WHERE stream = 'DEADLETTER'") == []


async def test_a_cut_connection_is_replaced(stack: Stack, make: Any, asking: Any) -> None:
    audit = await stack.service("audit")
    policy = await asking.bus("policy")
    first, second = make.granted(), make.granted()
    await policy.publish(first)
    await asking.receipt(first.event_id())
    await asking.sql(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'countersign-audit'"
    )
    await policy.publish(second)
    assert (await asking.receipt(second.event_id())).event_ids == (second.event_id(),)
    await until(lambda: audit.unready() == [])
    assert (await asking.verified()).findings == ()


async def test_a_commit_whose_answer_is_lost_is_not_made_twice(stack: Stack, make: Any, asking: Any) -> None:
    """The connection ends between commit and answer, as far as audit can tell: what is waiting may be on record."""
    audit = await stack.service("audit")
    store = audit_store(audit)
    append = store.append
    lost = iter([True])

    async def append_and_lose(connection: Any, *args: Any) -> None:
        await append(connection, *args)
        if next(lost, False):
            raise ConnectionResetError("injected")

    store.append = append_and_lose
    events = [make.granted() for _ in range(5)]
    await (await asking.bus("policy")).publish_all([(e, None) for e in events])
    ids = [e.event_id() for e in events]
    assert set((await asking.receipt(*ids)).event_ids) == set(ids)
    await until(lambda: audit.unready() == [])
    report = await asking.verified()
    assert report.findings == ()
    rows = await asking.sql("SELECT event_id FROM entries WHERE stream = 'ACTIONS'")
    assert sorted(r["event_id"] for r in rows) == sorted(ids)


async def test_a_row_that_postgresql_refuses_is_set_apart(stack: Stack, make: Any, asking: Any) -> None:
    """One message that cannot be stored as it is must not stop the ledger for all others."""
    await stack.service("audit")
    events = [make.granted() for _ in range(9)]
    ids = [e.event_id() for e in events]
    await asking.sql(
        """
        CREATE FUNCTION audit.refuse_one() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'impossible value' USING ERRCODE = 'data_exception'; END $$
        """
    )
    await asking.sql(
        f"CREATE TRIGGER refuse_one BEFORE INSERT ON entries FOR EACH ROW WHEN (new.event_id = '{ids[4]}')"
        " EXECUTE FUNCTION refuse_one()"
    )
    await (await asking.bus("policy")).publish_all([(e, None) for e in events])
    others = [i for i in ids if i != ids[4]]
    assert set((await asking.receipt(*others)).event_ids) == set(others)
    assert (await asking.receipt(ids[4], wait_s=0.2)).event_ids == ()
    (row,) = await asking.sql(
        "SELECT convert_from(body, 'UTF8') AS body FROM entries WHERE type = 'countersign.audit.unverified.v1'"
    )
    assert "impossible value" in row["body"]
    assert ids[4] in row["body"]
    assert (await asking.verified()).findings == ()


async def test_who_steps_down_gives_everything_back(stack: Stack, make: Any, asking: Any) -> None:
    """What waits to be written is neither acknowledged nor kept."""
    audit = await stack.service("audit")
    handler: Any = audit._consumers[0].handler
    appender = handler.func.__self__._appender
    await asking.sql(_DISK_FULL)
    await asking.sql("CREATE TRIGGER full_disk BEFORE INSERT ON entries EXECUTE FUNCTION full_disk()")
    await (await asking.bus("policy")).publish(make.granted())
    await until(lambda: appender.trouble is not None)
    done = appender.submit([])
    appender.step_down()
    with pytest.raises(StandingBy):
        await done
    with pytest.raises(StandingBy):
        appender.submit([])
    client = (await asking.bus("audit")).connection.client
    info = await client.request("$JS.API.CONSUMER.INFO.ACTIONS.audit-actions", b"")
    assert orjson.loads(info.data)["ack_floor"]["stream_seq"] == 0


async def test_events_stay_in_order_while_a_commit_takes_long(stack: Stack, make: Any, asking: Any) -> None:
    async def slow() -> None:
        await asyncio.sleep(0.05)

    await stack.service("audit", Failpoints({"audit.before_commit": slow}), append_max_entries=8)
    policy = await asking.bus("policy")
    events = [make.granted() for _ in range(200)]
    await policy.publish_all([(e, None) for e in events])
    await asking.receipt(*(e.event_id() for e in events))
    rows = await asking.sql("SELECT stream_seq FROM entries WHERE stream = 'ACTIONS' ORDER BY seq")
    assert [r["stream_seq"] for r in rows] == list(range(1, 201))


def audit_store(service: Any) -> Any:
    """The store of a running audit service, as the handler of its consumers holds it."""
    return service._consumers[0].handler.func.__self__._store
