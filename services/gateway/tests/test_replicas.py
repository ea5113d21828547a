"""Two gateways: a caller is told by the one it called, whichever takes the event from the durable consumer."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import orjson
import pytest

from countersign_contracts import subjects
from countersign_contracts.actions import ActionResult
from countersign_contracts.envelope import Envelope
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import new_id
from countersign_gateway import overhearing

ARGS = {"tool": "read_thing", "args": {"thing_id": 1}, "env": "dev"}


class Heard:
    """What an agent is told on its results subjects, by request id."""

    def __init__(self) -> None:
        self.states: dict[str, list[str]] = {}
        self.news = asyncio.Event()

    async def hear(self, msg: Any) -> None:
        result = ActionResult.from_bytes(msg.data)
        self.states.setdefault(result.request_id, []).append(result.state)
        self.news.set()


@pytest.fixture
def never_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhearing, "_LOOK_S", 3600.0)


async def second(world: Any, *, consumes: bool = True) -> Any:
    """Another gateway; with ``consumes`` it alone takes what the durable consumer brings."""
    other = await world.stack.service("gateway")
    if consumes:
        for each in world.services["gateway"]._consumers:
            if each.spec.name == "gateway-finals":
                await each.stop(1)
    return other


async def the_first_answers(world: Any, other: Any) -> None:
    """Calls over NATS are answered by the first gateway; the other goes on with everything else."""
    for connection in other._connections:
        if connection.name == "gateway" and connection is not other.bus.connection:
            for subscription in list(connection.client._subs.values()):
                if subscription.subject.endswith(".call"):
                    await subscription.unsubscribe()
            await connection.barrier()


async def agent(world: Any) -> tuple[Any, Heard]:
    client, heard = await world.stack.client("worker-1", world.creds["worker-1"]), Heard()
    await client.subscribe("agents.worker-1.results.>", cb=heard.hear)
    await client.flush()
    return client, heard


async def call(client: Any, wait_s: float, **more: Any) -> ActionResult:
    body = {"request_id": new_id(), **ARGS, "wait_s": wait_s, **more}
    msg = await client.request(subjects.agent("worker-1", "call"), orjson.dumps(body), timeout=wait_s + 15)
    return ActionResult.from_bytes(msg.data)


async def test_callers_over_http_and_nats_are_told_though_the_other_takes_the_event(
    world: Any, never_looks: None
) -> None:
    other = await second(world)
    await the_first_answers(world, other)
    client, heard = await agent(world)
    answers = await asyncio.gather(*(world.submit("read_thing", {"thing_id": i}) for i in range(1, 11)))
    assert [answer["state"] for answer in answers] == ["succeeded"] * 10
    # what was told is what is read, though the other writes the row
    states = [await world.state(answer["request_id"]) for answer in answers]
    assert states == ["succeeded"] * 10
    called = await asyncio.gather(*(call(client, 15, args={"thing_id": i}) for i in range(1, 11)))
    assert [result.state for result in called] == ["succeeded"] * 10
    # a row is written, and nothing is announced to an agent that was answered: a queued one's end comes after theirs
    queued: dict[str, Any] = {"request_id": new_id(), **ARGS}
    await client.publish(subjects.agent("worker-1", "actions"), orjson.dumps(queued))
    async with asyncio.timeout(15):
        while "succeeded" not in heard.states.get(queued["request_id"], []):
            heard.news.clear()
            await heard.news.wait()
    assert set(heard.states) == {queued["request_id"]}


async def test_a_cancellation_at_one_gateway_is_told_to_who_waits_at_the_other(world: Any, never_looks: None) -> None:
    other = await second(world, consumes=False)
    waiting = asyncio.create_task(world.submit("write_thing", {"thing_id": 1, "status": "x"}, env="prod", wait=30))
    async with asyncio.timeout(15):
        while not (held := (await world.ok("GET", "/api/v1/actions?state=held"))["items"]):
            await asyncio.sleep(0.02)
    world.url = f"http://127.0.0.1:{other.http.port}"
    await world.ok("POST", f"/api/v1/actions/{held[0]['request_id']}/cancel", {"reason": "no need"}, as_="worker-1")
    async with asyncio.timeout(10):
        assert (await waiting)["state"] == "cancelled"


async def test_a_call_that_stopped_waiting_is_announced_once_by_whoever_takes_the_event(world: Any) -> None:
    other = await second(world)
    await the_first_answers(world, other)
    client, heard = await agent(world)
    world.downstream.gate.clear()
    result = await call(client, 0.3)
    assert result.state in ("accepted", "granted", "executing")
    world.downstream.gate.set()
    async with asyncio.timeout(15):
        while "succeeded" not in heard.states.get(result.request_id, []):
            heard.news.clear()
            await heard.news.wait()
    await client.flush()
    assert heard.states[result.request_id] == ["succeeded"]


async def test_who_missed_the_event_finds_it_in_the_row(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhearing, "_LOOK_S", 0.1)
    monkeypatch.setattr(Envelope, "read", _unreadable)
    await second(world)
    assert (await world.submit("read_thing", {"thing_id": 1}))["state"] == "succeeded"


_read = Envelope.read


def _unreadable(headers: Any, body: bytes) -> Envelope:
    """As if what passes by were lost; what the consumers bring is whole."""
    if sys._getframe(1).f_code.co_name == "_hear":
        raise CountersignError("lost")
    return _read(headers, body)


async def test_a_gateway_that_stops_lets_its_callers_go_with_what_is_known(world: Any) -> None:
    world.downstream.gate.clear()
    client, _ = await agent(world)
    calling = asyncio.create_task(call(client, 60))
    async with asyncio.timeout(15):
        while not world.downstream.calls:
            await asyncio.sleep(0.02)
    await world.services["gateway"].stop()
    async with asyncio.timeout(10):
        assert (await calling).state in ("accepted", "granted", "executing")
