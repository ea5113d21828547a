"""Exports: complete, in pages, verified by a stranger, and every tampering with the database found."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from countersign_audit.arrival import MAX_BODY_BYTES
from countersign_contracts.commands import ExportLedger
from countersign_contracts.errors import CountersignError
from countersign_harness.stack import Stack
from countersign_ledger import Checkpoint, verify_export


async def recorded(asking: Any, make: Any, count: int, **options: Any) -> None:
    """Put ``count`` events on record."""
    events = [make.granted(**options) for _ in range(count)]
    await (await asking.bus("policy")).publish_all([(e, None) for e in events])
    ids = [e.event_id() for e in events]
    assert set((await asking.receipt(*ids)).event_ids) == set(ids)


async def announced(asking: Any, seq: int) -> None:
    """The checkpoint of that entry is on record itself: nothing more comes by itself."""
    event_id = f"checkpoint-{seq}.checkpointed"
    assert (await asking.receipt(event_id)).event_ids == (event_id,)


async def test_an_export_is_verified_by_a_stranger(stack: Stack, make: Any, asking: Any) -> None:
    await stack.service("audit", checkpoint_interval_s=3600, checkpoint_entries=10)
    for times in range(1, 6):
        await recorded(asking, make, 12)
        async with asyncio.timeout(10):
            while len(await asking.sql("SELECT FROM checkpoints")) < times:
                await asyncio.sleep(0.02)
    report = await asking.verified()
    assert report.findings == ()
    assert report.first_seq == 1
    assert report.last_seq >= 60
    assert report.checkpoints >= 5, "those between the entries are in it too"


async def test_an_empty_ledger_can_be_exported(stack: Stack, asking: Any) -> None:
    await stack.service("audit")
    report = await asking.verified()
    assert (report.findings, report.entries) == ((), 0)
    assert await asking.sql("SELECT FROM checkpoints") == []


async def test_exporting_an_idle_ledger_adds_nothing_to_it(stack: Stack, make: Any, asking: Any) -> None:
    await stack.service("audit", checkpoint_interval_s=0.05)
    await recorded(asking, make, 3)
    await announced(asking, 3)
    assert [(await asking.verified()).last_seq for _ in range(3)] == [4, 4, 4]


async def test_a_large_ledger_comes_in_pages_that_fit(stack: Stack, make: Any, asking: Any) -> None:
    await stack.service("audit")
    await recorded(asking, make, 900, warrant="w")
    await recorded(asking, make, 40, warrant="w" * 90_000)
    await recorded(asking, make, 1, warrant="w" * (MAX_BODY_BYTES - 2000))
    gateway = await asking.bus("gateway")
    page = await gateway.ask(ExportLedger())
    pages = [page]
    while page.next is not None:
        page = await gateway.ask(ExportLedger(next=page.next, last_seq=page.last_seq))
        pages.append(page)
    assert len(pages) >= 6
    assert all(len(p.to_bytes()) < 1_000_000 for p in pages)
    lines = [line for p in pages for line in p.lines]
    report = verify_export(lines, stack.trust())
    assert report.findings == ()
    assert report.entries >= 941


async def test_what_comes_while_it_is_read_is_not_in_it(stack: Stack, make: Any, asking: Any) -> None:
    await stack.service("audit", checkpoint_interval_s=3600)
    await recorded(asking, make, 30, warrant="w" * 90_000)
    gateway = await asking.bus("gateway")
    first = await gateway.ask(ExportLedger())
    await recorded(asking, make, 5)
    lines, page = list(first.lines), first
    while page.next is not None:
        page = await gateway.ask(ExportLedger(next=page.next, last_seq=page.last_seq))
        lines += page.lines
    report = verify_export(lines, stack.trust())
    assert (report.findings, report.last_seq) == ((), first.last_seq)


async def test_a_part_can_be_exported(stack: Stack, make: Any, asking: Any) -> None:
    await stack.service("audit", checkpoint_interval_s=3600)
    await recorded(asking, make, 10)
    report = verify_export(await asking.export(first_seq=6), stack.trust())
    assert (report.findings, report.first_seq, report.last_seq >= 10) == ((), 6, True)


async def test_a_range_that_is_none_is_refused(stack: Stack, asking: Any) -> None:
    await stack.service("audit")
    for asked in (
        {"first_seq": 99},
        {"next": 5},
        {"next": 5, "last_seq": 3},
        {"first_seq": 4, "next": 2, "last_seq": 9},
    ):
        with pytest.raises(CountersignError) as refused:
            await (await asking.bus("gateway")).ask(ExportLedger(**asked))
        assert refused.value.code == "invalid"


#: what is done to the database, and the kind and sequence with which the verification names it
TAMPERING = {
    "flipped byte": (
        ["UPDATE entries SET body = set_byte(body, 40, get_byte(body, 40) # 1) WHERE seq = 5"],
        {("altered", 5)},
    ),
    "another agent": (
        ["UPDATE entries SET event_id = event_id || 'x' WHERE seq = 5"],
        {("altered", 5)},
    ),
    "recorded at another time": (
        ["UPDATE entries SET recorded_at = '2020-01-01T00:00:00.000000Z' WHERE seq = 5"],
        {("altered", 5)},
    ),
    "deleted": (["DELETE FROM entries WHERE seq = 5"], {("missing", 5)}),
    "several deleted": (["DELETE FROM entries WHERE seq BETWEEN 4 AND 7"], {("missing", 4)}),
    "exchanged": (
        [
            "UPDATE entries SET seq = 1000 WHERE seq = 5",
            "UPDATE entries SET seq = 5 WHERE seq = 8",
            "UPDATE entries SET seq = 8 WHERE seq = 1000",
        ],
        {("altered", 5), ("altered", 8)},
    ),
    "end cut off": (["DELETE FROM entries WHERE seq > 9"], {("truncated", 10)}),
}


async def test_tampering_with_the_database_is_found(
    stack: Stack, make: Any, asking: Any, subtests: pytest.Subtests
) -> None:
    """As superuser, triggers off, audit running on: it does not look, and the verification sees."""
    await stack.service("audit", checkpoint_interval_s=3600)
    await recorded(asking, make, 12)
    assert (await asking.verified()).findings == ()
    await announced(asking, 12)
    await asking.keep()
    for name, (statements, expected) in TAMPERING.items():
        with subtests.test(name):
            for statement in statements:
                await asking.sql(statement)
            found = {(f.kind, f.seq) for f in (await asking.verified()).findings}
            await asking.restore()
            assert expected <= found
            touched = {seq for _, seq in expected}
            assert {seq for _, seq in found} <= touched | {seq + 1 for seq in touched}, "nothing else is accused"
    assert (await asking.verified()).findings == ()


async def test_a_wholly_rewritten_ledger_is_found_by_the_checkpoints_outside(
    stack: Stack, make: Any, asking: Any
) -> None:
    """Whoever holds the database and every key but the file: the chain is computed anew, without one entry."""
    from countersign_ledger import Chain, Record

    await stack.service("audit", checkpoint_interval_s=3600)
    await recorded(asking, make, 10)
    await asking.verified()
    await announced(asking, 10)
    outside = [Checkpoint.from_dict(orjson.loads(line)) for line in stack.layout.checkpoints.read_bytes().splitlines()]
    rows = await asking.sql("SELECT * FROM entries ORDER BY seq")
    await asking.sql("TRUNCATE entries, checkpoints")
    chain = Chain()
    for row in rows:
        if row["seq"] == 4:
            continue
        entry = chain.append(Record(**{name: row[name] for name in Record.__slots__}))
        await asking.sql(
            "INSERT INTO entries SELECT ($1::entries).*",
            tuple({**dict(row), "seq": entry.seq, "prev_hash": entry.prev_hash, "hash": entry.hash}.values()),
        )
    forged = await _forged_export(stack, asking, chain)
    report = verify_export(forged, stack.trust(), outside)
    assert "checkpoint-mismatch" in {f.kind for f in report.findings} or "truncated" in {
        f.kind for f in report.findings
    }
    # and without them the gap in the stream still shows
    assert "stream-gap" in {f.kind for f in verify_export(forged, stack.trust()).findings}


async def _forged_export(stack: Stack, asking: Any, chain: Any) -> list[bytes]:
    from countersign_ledger import Entry, ExportHeader, write_export

    head = Checkpoint.make(
        stack.key("audit"),
        deployment=stack.trust().deployment,
        seq=chain.head_seq,
        hash=chain.head_hash,
        time="2026-01-31T12:00:00Z",
    )
    rows = await asking.sql("SELECT * FROM entries ORDER BY seq")
    entries = [Entry(**{name: row[name] for name in Entry.__slots__}) for row in rows]
    header = ExportHeader(stack.trust().deployment, 1, chain.head_seq, "2026-01-31T12:00:00Z", head)
    return list(write_export(header, entries))
