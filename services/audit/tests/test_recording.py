"""Events of all services, recorded by audit from the real streams."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson
import pytest

from countersign_chassis import Failpoints
from countersign_contracts.approvals import ApprovalRequested
from countersign_contracts.commands import GetLedgerHead, ReadTimeline
from countersign_contracts.control import DeadLettered, Stop, StopSet
from countersign_contracts.envelope import seal_event
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import AgentStatusChanged
from countersign_harness.stack import Stack

AT = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


async def _of_every_stream(asking: Any, make: Any, count: int) -> list[str]:
    """Publish ``count`` events of each of five streams, all at once; returns their ids."""
    events: list[tuple[str, Any]] = []
    for n in range(count):
        action = make.action()
        approval = ApprovalRequested(approval_id=f"apr_{n}", action=action.ref(), requested_at=AT, deadline=AT)
        paused = AgentStatusChanged(agent_id="agent-1", by="ann", at=AT, before="active", status="paused", reason="r")
        stop = StopSet(stop=Stop(stop_id=f"stop_{n}", scope="all", reason="r", set_by="ann", set_at=AT))
        dead = DeadLettered(
            stream="ACTIONS",
            consumer="policy-actions",
            stream_seq=n,
            subject="actions.requested.agent-1",
            headers={},
            body="",
            tries=8,
            reason="r",
            at=AT,
        )
        events += [("gateway", make.requested(action)), ("approvals", approval), ("registry", paused)]
        events += [("executor", stop), ("policy", dead)]
    buses = {service: await asking.bus(service) for service, _ in events}
    await asyncio.gather(*(buses[service].publish(event) for service, event in events))
    return [event.event_id() for _, event in events]


async def test_events_of_all_streams_form_one_chain(stack: Stack, make: Any, asking: Any) -> None:
    await stack.service("audit", append_max_entries=16)
    ids = await _of_every_stream(asking, make, 60)
    assert set((await asking.receipt(*ids)).event_ids) == set(ids)
    lines = [orjson.loads(line) for line in await asking.export()]
    entries = [line["entry"] for line in lines if "entry" in line]
    assert [e["seq"] for e in entries] == list(range(1, len(entries) + 1))
    assert {e["stream"] for e in entries} == {"ACTIONS", "APPROVALS", "FLEET", "CONTROL", "DEADLETTER"}
    assert Counter(e["event_id"] for e in entries).most_common(1)[0][1] == 1
    report = await asking.verified()
    assert report.findings == ()
    assert report.entries >= 300


async def test_the_stream_s_creation_is_its_epoch(stack: Stack, make: Any, asking: Any) -> None:
    event = make.granted()
    await (await asking.bus("policy")).publish(event)
    await stack.service("audit")
    await asking.receipt(event.event_id())
    (row,) = await asking.sql("SELECT epoch, stream_seq FROM entries WHERE event_id = $1", event.event_id())
    info = await (await asking.bus("audit")).connection.client.request("$JS.API.STREAM.INFO.ACTIONS", b"")
    created = orjson.loads(info.data)["created"]
    assert row["epoch"] == int(datetime.fromisoformat(created[:19] + "+00:00").timestamp())
    assert row["stream_seq"] == 1


async def test_what_is_delivered_again_is_recorded_once(stack: Stack, make: Any, asking: Any) -> None:
    """The commit succeeds and the handler fails before the ack: the same messages are handled again."""
    failures = iter([True] * 3)

    async def fail() -> None:
        if next(failures, False):
            raise RuntimeError("injected")

    await stack.service("audit", Failpoints({"audit.after_commit_before_ack": fail}))
    ids = await _of_every_stream(asking, make, 10)
    await asking.receipt(*ids)
    report = await asking.verified()
    assert report.findings == ()
    rows = await asking.sql("SELECT event_id FROM entries WHERE type NOT LIKE 'countersign.audit.%'")
    assert sorted(r["event_id"] for r in rows) == sorted(ids)


async def test_a_repeat_and_a_conflict_are_recorded_as_such(stack: Stack, make: Any, asking: Any) -> None:
    await stack.service("audit")
    policy = await asking.bus("policy")
    event = make.granted()
    await policy.publish(event)
    key = stack.key("policy")
    same = seal_event(event, time=AT, key=key)
    other = seal_event(event.model_copy(update={"warrant": "another"}), time=AT, key=key)
    for attempt, envelope in (("1", same), ("2", other)):
        await policy.publish_sealed([(event.nats_subject(), "ACTIONS", envelope)], attempt=attempt)
    last = make.granted()
    await policy.publish(last)
    await asking.receipt(event.event_id(), last.event_id())
    rows = await asking.sql("SELECT type FROM entries WHERE stream = 'ACTIONS' ORDER BY stream_seq")
    assert [r["type"].split(".", 1)[1] for r in rows] == [
        "actions.granted.v1",
        "audit.repeated.v1",
        "audit.unverified.v1",
        "actions.granted.v1",
    ]
    report = await asking.verified()
    assert report.findings == ()


async def test_what_cannot_be_verified_is_kept_counted_and_confirms_nothing(
    stack: Stack, make: Any, asking: Any
) -> None:
    audit = await stack.service("audit")
    event = make.granted()
    # the executor may publish on a subject of its own, signed by nobody who may say so
    forged = seal_event(event, time=AT, key=stack.key("executor"))
    executor = await asking.bus("executor")
    await executor.publish_sealed([("actions.executed.agent-1", "ACTIONS", forged)])
    genuine = make.granted()
    await (await asking.bus("policy")).publish(genuine)
    receipt = await asking.receipt(event.event_id(), genuine.event_id(), wait_s=0.5)
    assert receipt.event_ids == (genuine.event_id(),)
    found = await (await asking.bus("gateway")).ask(ReadTimeline(kind="audit.unverified"))
    (entry,) = found.items
    assert "may not sign" in entry.body["reason"]
    assert entry.body["headers"]["ce-id"] == event.event_id()
    assert entry.request_id is None
    assert 'countersign_audit_unverified_total{reason="unverifiable"} 1.0' in audit.metrics.render().decode()
    report = await asking.verified()
    assert report.findings == ()
    assert any(f"{entry.seq}" in note for note in report.notes), "a stranger is told of it"
    # the genuine event under that id is recorded all the same
    await (await asking.bus("policy")).publish_sealed(
        [(event.nats_subject(), "ACTIONS", seal_event(event, time=AT, key=stack.key("policy")))], attempt="2"
    )
    assert (await asking.receipt(event.event_id())).event_ids == (event.event_id(),)


async def test_a_time_that_postgresql_cannot_hold_does_not_stop_the_ledger(
    stack: Stack, make: Any, asking: Any
) -> None:
    """Its event is recorded as unverified, and its neighbours as what they are."""
    key = stack.key("policy")
    events = [make.granted() for _ in range(5)]
    envelopes = [seal_event(event, time=AT, key=key) for event in events]
    unsigned = replace(envelopes[2], time="0001-01-01T00:00:00+14:00")
    envelopes[2] = replace(unsigned, signature=key.sign(unsigned.signing_bytes()))
    await (await asking.bus("policy")).publish_sealed(
        [(event.nats_subject(), "ACTIONS", e) for event, e in zip(events, envelopes, strict=True)]
    )
    await stack.service("audit")
    ids = [event.event_id() for event in events]
    receipt = await asking.receipt(*ids, wait_s=1)
    assert receipt.event_ids == (*ids[:2], *ids[3:])
    assert (await asking.verified()).findings == ()


async def test_the_ledger_refuses_to_be_changed(stack: Stack, make: Any, asking: Any) -> None:
    await stack.service("audit")
    event = make.granted()
    await (await asking.bus("policy")).publish(event)
    await asking.receipt(event.event_id())
    connection = await asyncpg.connect(stack.settings("audit")["postgres_dsn"])
    try:
        for statement in (
            "UPDATE entries SET body = '' WHERE seq = 1",
            "DELETE FROM entries",
            "TRUNCATE entries",
            "DELETE FROM checkpoints",
            "UPDATE checkpoints SET seq = 1",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_metrics_say_how_the_ledger_is(stack: Stack, make: Any, asking: Any) -> None:
    audit = await stack.service("audit")
    event = make.granted()
    await (await asking.bus("policy")).publish(event)
    await asking.receipt(event.event_id())
    text = audit.metrics.render().decode()
    for line in (
        'countersign_audit_entries_total{kind="actions"} 1.0',
        "countersign_audit_head 1.0",
        "countersign_audit_leading 1.0",
        "countersign_audit_append_entries_sum 1.0",
        "countersign_audit_receipt_wait_seconds_count 1.0",
    ):
        assert line in text
    assert event.action.request_id not in text
    assert audit.unready() == []


async def test_the_head_is_told(stack: Stack, make: Any, asking: Any) -> None:
    await stack.service("audit", checkpoint_interval_s=3600)
    gateway = await asking.bus("gateway")
    empty = await gateway.ask(GetLedgerHead())
    assert (empty.seq, empty.hash, empty.checkpoint_seq) == (0, "0" * 64, 0)
    event = make.granted()
    await (await asking.bus("policy")).publish(event)
    receipt = await asking.receipt(event.event_id())
    head = await gateway.ask(GetLedgerHead())
    assert (head.seq, head.checkpoint_seq) == (1, 0) == (receipt.head, 0)
    with pytest.raises(CountersignError):
        await (await asking.bus("policy")).ask(GetLedgerHead(), timeout_s=0.3)
