"""Every message of a stream has its entry, in the stream's order, whatever becomes of servers and connections."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from time import time_ns
from types import SimpleNamespace
from typing import Any

import nats
import orjson
import pytest
from nats.aio.client import Client

from countersign_audit.following import Followed
from countersign_chassis.stored import read_headers
from countersign_cli.bootstrap import apply_topology
from countersign_cli.embedded.nats import EmbeddedNats
from countersign_contracts.envelope import seal_event
from countersign_contracts.model import now
from countersign_contracts.topology import Consumer
from countersign_harness.stack import Stack


@pytest.fixture
def fixed_port(stack: Stack) -> None:
    """Keep nats-server's port when it is started again, so that clients find it."""
    port = stack.nats_url.rsplit(":", 1)[1]
    config = stack.layout.nats_config
    config.write_text(re.sub(r'("?port"?\s*[:=]\s*)-1', rf"\g<1>{port}", config.read_text(), count=1))


async def _restart(stack: Stack, *, wiped: bool = False) -> None:
    await asyncio.to_thread(stack.nats.stop)
    if wiped:
        (store,) = re.findall(r'store_dir"?\s*[:=]\s*"?([^"\s,]+)', stack.layout.nats_config.read_text())
        shutil.rmtree(store)
    await asyncio.to_thread(stack.nats.start)
    if wiped:
        await apply_topology(stack.nats_url, stack.layout)


async def _published(bus: Any, events: list[Any], attempt: str = "") -> list[str]:
    messages = [(e.nats_subject(), "ACTIONS", bus.seal(e)) for e in events]
    await bus.publish_sealed(messages, attempt=attempt)
    return [e.event_id() for e in events]


async def test_a_wiped_stream_goes_on_in_a_new_incarnation(
    stack: Stack, make: Any, asking: Any, fixed_port: None
) -> None:
    """Audit stays connected through it; what is sent again is on record as a repeat."""
    await stack.service("audit")
    policy = await asking.bus("policy")
    old = [make.granted() for _ in range(5)]
    await asking.receipt(*await _published(policy, old))
    await asyncio.sleep(1.1)  # the incarnation is told by the second
    await _restart(stack, wiped=True)
    new = [make.granted() for _ in range(3)]
    await _published(policy, old[:2], attempt="2")
    ids = await _published(policy, new)
    async with asyncio.timeout(20):
        while set((await asking.receipt(*ids, wait_s=2)).event_ids) != set(ids):
            pass
    rows = await asking.sql("SELECT epoch, stream_seq, type FROM entries WHERE stream = 'ACTIONS' ORDER BY seq")
    first, second = sorted({r["epoch"] for r in rows})
    assert [r["stream_seq"] for r in rows if r["epoch"] == first] == [1, 2, 3, 4, 5]
    assert [r["stream_seq"] for r in rows if r["epoch"] == second] == [1, 2, 3, 4, 5]
    assert [r["type"].split(".")[2] for r in rows if r["epoch"] == second] == ["repeated"] * 2 + ["granted"] * 3
    assert (await asking.verified()).findings == ()


async def test_a_server_restarted_under_load_leaves_no_gap_and_no_disorder(
    stack: Stack, make: Any, asking: Any, fixed_port: None
) -> None:
    await stack.service("audit")
    policy = await asking.bus("policy")
    events = [make.granted() for _ in range(300)]
    half = await _published(policy, events[:150])
    await _restart(stack)
    ids = half + await _published(policy, events[150:])
    async with asyncio.timeout(25):
        while set((await asking.receipt(*ids, wait_s=2)).event_ids) != set(ids):
            pass
    rows = await asking.sql("SELECT stream_seq FROM entries WHERE stream = 'ACTIONS' ORDER BY seq")
    assert [r["stream_seq"] for r in rows] == list(range(1, 301))
    assert (await asking.verified()).findings == ()


async def test_what_another_reader_took_and_never_acknowledged_is_read_from_the_stream(
    stack: Stack, make: Any, asking: Any
) -> None:
    """Three messages are in flight at somebody who is gone; the next one shows the gap, and it is filled before it."""
    policy = await asking.bus("policy")
    thief = (await asking.bus("audit")).connection.client
    gone = [make.granted() for _ in range(3)]
    await asking.bus("executor")
    await _published(policy, gone)
    inbox = thief.new_inbox()
    taken = await thief.subscribe(inbox)
    await thief.publish("$JS.API.CONSUMER.MSG.NEXT.ACTIONS.audit-actions", b"3", reply=inbox)
    for _ in gone:
        await taken.next_msg(timeout=2)
    await stack.service("audit")
    # at the start nothing shows it, but the server tells what was delivered
    receipt = await asking.receipt(*(e.event_id() for e in gone))
    assert len(receipt.event_ids) == 3
    more = [make.granted() for _ in range(4)]
    await thief.publish(
        "$JS.API.CONSUMER.MSG.NEXT.ACTIONS.audit-actions", b'{"batch": 2, "no_wait": true}', reply=inbox
    )
    ids = await _published(policy, more)
    assert len((await asking.receipt(*ids)).event_ids) == 4
    rows = await asking.sql("SELECT stream_seq FROM entries WHERE stream = 'ACTIONS' ORDER BY seq")
    assert [r["stream_seq"] for r in rows] == list(range(1, 8))


@pytest.fixture
async def open_server(tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a server where anything may be done, deleting messages included."""
    config = tmp_path / "open.conf"
    config.write_text(f'listen: "127.0.0.1:-1"\njetstream {{ store_dir: "{tmp_path / "open"}" }}\n')
    server = EmbeddedNats(config, tmp_path / "runtime")
    await asyncio.to_thread(server.start)
    client = await nats.connect(str(server.url()))
    yield client
    await client.close()
    await asyncio.to_thread(server.stop)


async def test_what_a_stream_does_not_have_any_more_is_left_out(open_server: Client) -> None:
    admin = open_server
    stream = {"name": "TRIAL", "subjects": ["trial.*"], "storage": "memory"}
    await admin.request("$JS.API.STREAM.CREATE.TRIAL", orjson.dumps(stream))
    for n in range(1, 7):
        await admin.request(f"trial.{n}", b"body %d" % n, headers={"n": str(n)})
    for seq in (1, 3, 4):
        await admin.request("$JS.API.STREAM.MSG.DELETE.TRIAL", orjson.dumps({"seq": seq}))
    followed = Followed(Consumer("TRIAL", "trial", "audit", ("trial.*",)), SimpleNamespace(client=admin), logging)

    async def nothing_recorded(stream: str, epoch: int) -> int:
        assert (stream, epoch) == ("TRIAL", followed.epoch)
        return 0

    await followed.begin(nothing_recorded)
    six: Any = SimpleNamespace(stream="TRIAL", epoch=0, stream_seq=6, time=time_ns(), tries=1)
    whole = await followed.completed([six])
    assert [m.stream_seq for m in whole] == [2, 5, 6]
    assert {m.epoch for m in whole} == {followed.epoch}
    two = whole[0]
    assert (two.stream, two.subject, two.body, two.headers["n"]) == ("TRIAL", "trial.2", b"body 2", "2")
    assert two.tries > 1, "it may be on record already"
    older: Any = SimpleNamespace(stream="TRIAL", epoch=0, stream_seq=2, time=time_ns(), tries=2)
    assert await followed.completed([older]) == [older]
    assert followed.last == 6


async def test_what_was_stored_just_before_a_stream_was_made_anew_is_not_of_the_new_one(open_server: Client) -> None:
    """Found by faults: within one second of the wipe it was recorded in the new stream's place, and no export held."""
    admin = open_server
    stream = orjson.dumps({"name": "TRIAL", "subjects": ["trial.*"], "storage": "memory"})
    await admin.request("$JS.API.STREAM.CREATE.TRIAL", stream)
    followed = Followed(Consumer("TRIAL", "trial", "audit", ("trial.*",)), SimpleNamespace(client=admin), logging)

    async def nothing_recorded(_: str, __: int) -> int:
        return 0

    await followed.begin(nothing_recorded)
    await admin.request("trial.1", b"of the first")
    epoch, before = followed.epoch, time_ns()
    await admin.request("$JS.API.STREAM.DELETE.TRIAL", b"")
    while time_ns() // 10**9 == before // 10**9:  # so that the second stream is another one by its second too
        await asyncio.sleep(0.01)
    stored = time_ns()
    await admin.request("$JS.API.STREAM.CREATE.TRIAL", stream)
    followed.doubt()
    late: Any = SimpleNamespace(stream="TRIAL", epoch=0, stream_seq=92, time=stored, tries=1)
    assert await followed.completed([late]) == [late]
    assert (late.epoch, followed.last) == (epoch, 0)


def test_headers_read_from_a_stream_are_those_that_were_sent(make: Any, keys: Any) -> None:
    headers = seal_event(make.granted(), time=now(), key=keys.keys["policy"]).headers() | {"x": "a: b", "empty": ""}
    block = "NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    assert read_headers(block.encode()) == headers
    assert read_headers(b"") == {}
