"""Two replicas of audit: one writes, the other stands by, and the chain never forks."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from countersign_audit.arrival import examine
from countersign_audit.sealing import seal_all
from countersign_audit.store import Head, HeadMoved, LedgerStore
from countersign_chassis import Failpoints
from countersign_contracts.commands import ExportLedger, ExportPage, GetLedgerHead, ReadTimeline
from countersign_contracts.errors import Unavailable
from countersign_harness.stack import Stack
from countersign_ledger import Chain, verify_export

STANDBY = "standby: another replica writes the ledger"

_RUN = """
import sys
from pydantic import TypeAdapter
from countersign_audit.app import build
from countersign_audit.settings import Settings
from countersign_chassis.run import run
sys.exit(run(lambda: build(Settings.model_validate_json(sys.argv[1]))))
"""


@asynccontextmanager
async def another_process(stack: Stack, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Audit in a process of its own, ready to write; killed at the end if it still runs."""
    from countersign_audit.settings import Settings

    settings = Settings(**stack.settings("audit"), log_level="info").model_copy(
        update={"checkpoint_file": folder / "other.jsonl"}
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _RUN, settings.model_dump_json(), stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(20):
            while b'"running"' not in (line := await process.stderr.readline()):
                assert line, "audit ended"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def role(service: Any) -> str:
    found: str = service.about()["ledger"]
    return found


async def until_leading(service: Any) -> None:
    async with asyncio.timeout(20):
        while role(service) != "writing" or service.unready():
            await asyncio.sleep(0.02)


async def test_the_second_replica_stands_by_and_answers(stack: Stack, make: Any, asking: Any, tmp_path: Path) -> None:
    first = await stack.service("audit")
    second = await stack.service("audit", checkpoint_file=tmp_path / "second.jsonl")
    assert first.unready() == []
    assert second.unready() == [] and role(second) == STANDBY
    gateway, policy = await asking.bus("gateway"), await asking.bus("policy")
    for _ in range(20):
        event = make.granted()
        await policy.publish(event)
        # whichever replica answers
        assert (await asking.receipt(event.event_id())).event_ids == (event.event_id(),)
    assert {(await gateway.ask(GetLedgerHead())).seq for _ in range(10)} <= set(range(20, 30))
    assert len((await gateway.ask(ReadTimeline(kind="actions."))).items) == 20
    assert "countersign_audit_leading 0.0" in second.metrics.render().decode()


async def test_the_second_takes_over_when_the_first_stops(stack: Stack, make: Any, asking: Any, tmp_path: Path) -> None:
    first = await stack.service("audit")
    second = await stack.service("audit", checkpoint_file=tmp_path / "second.jsonl")
    policy = await asking.bus("policy")
    before, after = make.granted(), make.granted()
    await policy.publish(before)
    await asking.receipt(before.event_id())
    await first.stop()
    await policy.publish(after)
    assert (await asking.receipt(after.event_id())).event_ids == (after.event_id(),)
    await until_leading(second)
    assert (await asking.verified()).findings == ()


async def test_a_standby_exports_what_is_covered_and_signs_nothing(
    stack: Stack, make: Any, asking: Any, tmp_path: Path
) -> None:
    first = await stack.service("audit", checkpoint_interval_s=3600)
    event = make.granted()
    await (await asking.bus("policy")).publish(event)
    await asking.receipt(event.event_id())
    page = await (await asking.bus("gateway")).ask(ExportLedger())
    second = await stack.service("audit", checkpoint_file=tmp_path / "second.jsonl")
    later = make.granted()
    await (await asking.bus("policy")).publish(later)
    await asking.receipt(later.event_id())
    last = await dict(second._answers)[ExportLedger](ExportLedger(), "gateway")
    assert isinstance(last, ExportPage)
    assert last.last_seq == page.last_seq
    assert verify_export(last.lines, stack.trust()).findings == ()
    assert not (tmp_path / "second.jsonl").read_bytes()
    assert first.unready() == []


async def test_a_writer_that_lost_its_lock_unnoticed_cannot_fork_the_chain(
    stack: Stack, make: Any, keys: Any, asking: Any
) -> None:
    audit = await stack.service("audit", checkpoint_interval_s=3600)
    await audit.stop()
    store = LedgerStore(audit.db)
    key = keys.keys["audit"]

    def batch(head: Head) -> Any:
        return seal_all(
            Chain(head.seq, head.hash),
            [examine(keys.message(make.granted(), "policy"), keys.trust)],
            {},
            key=key,
            at=make.at,
        )

    connection = await asyncpg.connect(stack.settings("audit")["postgres_dsn"])
    try:
        empty = Head(0, bytes(32))
        first = batch(empty)
        await store.append(connection, empty, first, 5)
        with pytest.raises((HeadMoved, asyncpg.UniqueViolationError)):
            await store.append(connection, empty, batch(empty), 5)
        one = Head(1, first[0].entry.hash)
        with pytest.raises(HeadMoved):
            await store.append(connection, Head(1, bytes([1]) * 32), batch(one), 5)
        beyond = Head(7, bytes([1]) * 32)
        with pytest.raises(HeadMoved):
            await store.append(connection, beyond, batch(beyond), 5)
        await store.append(connection, one, batch(one), 5)
        assert await connection.fetchval("SELECT array_agg(seq ORDER BY seq) FROM entries") == [1, 2]
    finally:
        await connection.close()


async def test_a_writer_cut_off_in_the_middle_gives_everything_to_the_other(
    stack: Stack, make: Any, asking: Any, tmp_path: Path
) -> None:
    """The first hangs before a commit and loses its session; the second records what the first still holds."""
    reached, release = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        reached.set()
        await release.wait()

    first = await stack.service("audit", Failpoints({"audit.before_commit": hang}))
    second = await stack.service("audit", checkpoint_file=tmp_path / "second.jsonl")
    events = [make.granted() for _ in range(40)]
    policy = await asking.bus("policy")
    await policy.publish_all([(e, None) for e in events])
    async with asyncio.timeout(5):
        await reached.wait()
    await asking.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    ids = [e.event_id() for e in events]
    assert set((await asking.receipt(*ids)).event_ids) == set(ids), "in flight at the first, and yet recorded at once"
    await until_leading(second)
    release.set()
    async with asyncio.timeout(10):
        while role(first) != STANDBY:
            await asyncio.sleep(0.02)
    last = make.granted()
    await policy.publish(last)
    await asking.receipt(last.event_id())
    report = await asking.verified()
    assert report.findings == ()
    rows = await asking.sql("SELECT stream_seq FROM entries WHERE stream = 'ACTIONS' ORDER BY seq")
    assert [r["stream_seq"] for r in rows] == list(range(1, 42))


async def test_a_writer_killed_under_load_loses_nothing_and_leaves_no_gap(
    stack: Stack, make: Any, asking: Any, tmp_path: Path
) -> None:
    policy = await asking.bus("policy")
    async with another_process(stack, tmp_path) as first:
        second = await stack.service("audit")
        assert second.unready() == [] and role(second) == STANDBY
        events = [make.granted() for _ in range(600)]
        publishing = asyncio.create_task(_steadily(policy, events))
        await asking.receipt(events[150].event_id())
        assert not publishing.done()
        first.send_signal(signal.SIGKILL)
        await asyncio.gather(first.wait(), publishing)
        ids = [e.event_id() for e in events]
        async with asyncio.timeout(15):
            while not await _all_on_record(asking, ids):
                pass
    await until_leading(second)
    report = await asking.verified()
    assert report.findings == ()
    rows = await asking.sql("SELECT event_id FROM entries WHERE stream = 'ACTIONS' ORDER BY seq")
    assert sorted(r["event_id"] for r in rows) == sorted(ids)


async def _all_on_record(asking: Any, ids: list[str]) -> bool:
    try:
        return len((await asking.receipt(*ids, wait_s=1)).event_ids) == len(ids)
    except Unavailable:  # the question went to the one that was killed
        return False


async def _steadily(bus: Any, events: list[Any]) -> None:
    for start in range(0, len(events), 20):
        await bus.publish_all([(e, None) for e in events[start : start + 20]])
        await asyncio.sleep(0.01)
