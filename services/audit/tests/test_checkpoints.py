"""Checkpoints: when they are made, where they go, and that audit refuses a database that contradicts them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from countersign_contracts.errors import CountersignError
from countersign_harness.stack import Stack
from countersign_ledger import Checkpoint


async def recorded(asking: Any, make: Any, count: int) -> list[str]:
    """Put ``count`` events on record."""
    events = [make.granted() for _ in range(count)]
    await (await asking.bus("policy")).publish_all([(e, None) for e in events])
    ids = [e.event_id() for e in events]
    assert set((await asking.receipt(*ids)).event_ids) == set(ids)
    return ids


def kept(stack: Stack) -> list[Checkpoint]:
    """The checkpoints in the file."""
    return [Checkpoint.from_dict(orjson.loads(line)) for line in stack.layout.checkpoints.read_bytes().splitlines()]


async def until_covered(stack: Stack, seq: int) -> None:
    async with asyncio.timeout(10):
        while not (found := kept(stack)) or found[-1].seq < seq:
            await asyncio.sleep(0.02)


async def test_new_entries_are_covered_soon_in_all_three_places(stack: Stack, make: Any, asking: Any) -> None:
    await stack.service("audit", checkpoint_interval_s=0.1)
    await recorded(asking, make, 5)
    await until_covered(stack, 5)
    checkpoint = kept(stack)[-1]
    assert checkpoint.verify(stack.trust()).service == "audit"
    assert (await asking.receipt(f"checkpoint-{checkpoint.seq}.checkpointed")).event_ids
    (row,) = await asking.sql("SELECT hash FROM checkpoints WHERE seq = $1", checkpoint.seq)
    (entry,) = await asking.sql("SELECT hash FROM entries WHERE seq = $1", checkpoint.seq)
    assert row["hash"] == entry["hash"] == checkpoint.hash
    (event,) = await asking.sql("SELECT convert_from(body, 'UTF8') AS body FROM entries WHERE stream = 'CONTROL'")
    assert Checkpoint.from_dict(orjson.loads(event["body"])["checkpoint"]) == checkpoint


async def test_an_idle_ledger_gets_no_more_of_them(stack: Stack, make: Any, asking: Any) -> None:
    """The event of a checkpoint is an entry, and that alone is no reason for another."""
    await stack.service("audit", checkpoint_interval_s=0.05)
    await recorded(asking, make, 1)
    await until_covered(stack, 1)
    await asking.receipt("checkpoint-1.checkpointed")
    await asyncio.sleep(0.5)
    assert [c.seq for c in kept(stack)] == [1]


async def test_many_entries_do_not_wait_for_the_interval(stack: Stack, make: Any, asking: Any) -> None:
    await stack.service("audit", checkpoint_interval_s=3600, checkpoint_entries=50)
    await recorded(asking, make, 60)
    await until_covered(stack, 50)


async def test_what_was_recorded_last_is_covered_at_stop(stack: Stack, make: Any, asking: Any) -> None:
    audit = await stack.service("audit", checkpoint_interval_s=3600)
    await recorded(asking, make, 3)
    await audit.stop()
    assert [c.seq for c in kept(stack)] == [3]


async def test_a_file_that_cannot_be_written_shows_and_hinders_no_receipt(stack: Stack, make: Any, asking: Any) -> None:
    audit = await stack.service("audit", checkpoint_interval_s=0.05)
    stack.layout.checkpoints.unlink()
    stack.layout.checkpoints.mkdir()
    await recorded(asking, make, 1)
    async with asyncio.timeout(5):
        while not audit.unready():
            await asyncio.sleep(0.02)
    assert audit.unready() == [
        f"checkpoints: cannot write the checkpoint file {stack.layout.checkpoints}: Is a directory"
    ]
    stack.layout.checkpoints.rmdir()
    await until_written(stack)
    async with asyncio.timeout(5):
        while audit.unready():
            await asyncio.sleep(0.02)


async def until_written(stack: Stack) -> None:
    async with asyncio.timeout(10):
        while not stack.layout.checkpoints.exists() or not kept(stack):
            await asyncio.sleep(0.02)


async def _refusal(stack: Stack) -> str:
    with pytest.raises(CountersignError) as refused:
        await stack.service("audit")
    assert "\n" not in refused.value.detail
    return refused.value.detail


#: what is done to a ledger of 15 entries, the last checkpoint for entry 10; and what audit says when it starts
TAMPERING = {
    "cut short": (
        ["DELETE FROM entries WHERE seq > 7", "DELETE FROM checkpoints"],
        "the ledger was cut short: it ends with entry 7, and the checkpoint file {file} (signed at ",
    ),
    "emptied": (["TRUNCATE entries", "TRUNCATE checkpoints"], "it ends with entry 0"),
    "rewritten": (
        ["UPDATE entries SET body = body || '\\x20'::bytea WHERE seq = 10"],
        "the ledger was rewritten: entry 10 is not the one that the checkpoint file",
    ),
    "rewritten with its hash": (
        ["UPDATE entries SET hash = prev_hash WHERE seq = 10"],
        "the ledger was rewritten: entry 10",
    ),
    "a hole": (["DELETE FROM entries WHERE seq = 10"], "the ledger was changed: entry 10 is missing"),
    "altered after it": (["UPDATE entries SET stream_seq = 99 WHERE seq = 14"], "entry 14 is not as it was recorded"),
    "deleted after it": (["DELETE FROM entries WHERE seq = 13"], "entry 13 is missing"),
    "unchained after it": (
        ["UPDATE entries SET prev_hash = hash WHERE seq = 14"],
        "entry 14 does not continue entry 13",
    ),
}


async def test_a_database_that_was_tampered_with_is_refused(
    stack: Stack, make: Any, asking: Any, subtests: pytest.Subtests
) -> None:
    file = stack.layout.checkpoints
    audit = await stack.service("audit", checkpoint_interval_s=3600)
    await recorded(asking, make, 10)
    await audit.stop()
    line = file.read_bytes()
    audit = await stack.service("audit", checkpoint_interval_s=3600)
    await recorded(asking, make, 4)
    await audit.stop()
    # as after a crash: what came last is not covered yet
    file.write_bytes(line)
    await asking.sql("DELETE FROM checkpoints WHERE seq > 10")
    await asking.keep()
    assert len(await asking.sql("SELECT FROM entries")) == 15
    for name, (statements, said) in TAMPERING.items():
        with subtests.test(name):
            for statement in statements:
                await asking.sql(statement)
            refusal = await _refusal(stack)
            await asking.restore()
            assert said.format(file=file) in refusal
    with subtests.test("and the file is lost"):
        file.unlink()
        await asking.sql("DELETE FROM entries WHERE seq > 7")
        refusal = await _refusal(stack)
        await asking.restore()
        assert "it ends with entry 7, and the table of checkpoints" in refusal
    await stack.service("audit")


async def _stopped_with(stack: Stack, asking: Any, make: Any, count: int) -> None:
    audit = await stack.service("audit", checkpoint_interval_s=3600)
    await recorded(asking, make, count)
    await audit.stop()


async def test_an_end_cut_off_while_audit_runs_is_not_written_on(stack: Stack, make: Any, asking: Any) -> None:
    """Not even one that no checkpoint covers yet: the writer knows what it committed, and gave receipts for."""
    audit = await stack.service("audit", checkpoint_interval_s=3600)
    await recorded(asking, make, 5)
    await asking.sql("DELETE FROM entries WHERE seq > 3")
    event = make.granted()
    await (await asking.bus("policy")).publish(event)
    assert (await asking.receipt(event.event_id(), wait_s=1)).event_ids == ()
    (reason,) = audit.unready()
    assert (
        "the ledger was cut short: it ends with entry 3, and what this process committed itself proves entry 5"
        in reason
    )
    assert len(await asking.sql("SELECT FROM entries")) == 3


async def test_a_checkpoint_of_another_deployment_is_refused(stack: Stack, make: Any, asking: Any) -> None:
    await _stopped_with(stack, asking, make, 1)
    foreign = Checkpoint.make(
        stack.key("audit"), deployment="other", seq=1, hash=bytes(32), time="2026-01-31T12:00:00Z"
    )
    stack.layout.checkpoints.write_bytes(orjson.dumps(foreign.to_dict()) + b"\n")
    assert "is of deployment 'other'" in await _refusal(stack)


async def test_a_lost_file_is_begun_anew(stack: Stack, make: Any, asking: Any) -> None:
    """Another replica's machine has another file: what it lacks is in the table."""
    await _stopped_with(stack, asking, make, 2)
    stack.layout.checkpoints.unlink()
    await stack.service("audit", checkpoint_interval_s=0.05)
    await recorded(asking, make, 2)
    await until_written(stack)


async def test_an_unwritable_file_is_refused_at_start(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CountersignError, match="cannot write the checkpoint file"):
        await stack.service("audit", checkpoint_file=tmp_path / "file" / "x.jsonl")
