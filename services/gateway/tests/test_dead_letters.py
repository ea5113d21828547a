"""Dead letters as people see them: listed, redriven by their own service, dropped; all of it on record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from countersign_chassis import Failpoints
from countersign_contracts.errors import Malformed, Unavailable
from countersign_contracts.ids import new_id
from countersign_harness.stack import Stack
from countersign_harness.world import World
from countersign_ledger import verify_export

LETTERS = "/api/v1/deadletters"


class Faulty:
    """Policy, whose code is wrong until it is mended."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.error: Exception | None = None

    async def before_commit(self) -> None:
        if self.error is not None:
            raise self.error

    async def letters(self, count: int, **query: Any) -> list[Any]:
        """As many open letters, once they are there."""
        async with asyncio.timeout(10):
            while True:
                given = "&".join(f"{k}={v}" for k, v in query.items())
                items: list[Any] = (await self.world.ok("GET", f"{LETTERS}?{given}"))["items"]
                if len(items) >= count:
                    assert len(items) == count
                    return items
                await asyncio.sleep(0.02)

    async def order(self, seq: int, what: str, *, as_: str = "admin") -> tuple[int, Any]:
        """Redrive or drop; the status and the answer."""
        body = {"reason": "the fault is mended"}
        status, answer, _ = await self.world.request("POST", f"{LETTERS}/{seq}/{what}", body, as_=as_)
        return status, answer

    async def entries(self, kind: str, count: int) -> list[Any]:
        """The events of that kind in the ledger, once there are as many."""
        async with asyncio.timeout(10):
            while True:
                found = await self.world.ok("GET", f"/api/v1/audit/timeline?kind={kind}")
                if len(found["items"]) >= count:
                    assert len(found["items"]) == count
                    return [item["body"] for item in found["items"]]
                await asyncio.sleep(0.02)

    async def plant(self, subject: str, body: bytes = b"no event at all") -> None:
        """Something unsigned, by a service's own NATS user."""
        service = {"actions.granted": "policy", "fleet.person_changed": "registry"}[subject.rpartition(".")[0]]
        bus = await self.world.stack.bus(service)
        await bus.connection.client.publish(subject, body)


@pytest_asyncio.fixture
async def faulty(stack: Stack) -> AsyncIterator[Faulty]:
    async with World(stack) as world:
        faulty = Faulty(world)
        failing = Failpoints({"policy.before_commit": faulty.before_commit})
        await world.start({"policy": failing}, {"gateway": {"redrive_after_s": 600}})
        yield faulty


async def test_a_redriven_request_is_decided_and_executed_once_and_its_letter_is_gone(faulty: Faulty) -> None:
    world = faulty.world
    faulty.error = Malformed("policy cannot read it")
    asked = await world.submit("write_thing", {"thing_id": 1, "status": "x"}, wait=0)
    (letter,) = await faulty.letters(1)
    assert (letter["consumer"], letter["stream"], letter["tries"]) == ("policy-actions", "ACTIONS", 1)
    assert letter["subject"] == "actions.requested.worker-1" and letter["reason"] == "policy cannot read it"
    shown = await world.ok("GET", f"{LETTERS}/{letter['seq']}")
    assert shown["redrivable"] and shown["headers"]["ce-subject"] == asked["request_id"]
    assert asked["request_id"] in shown["text"]

    faulty.error = Unavailable("the database is away")
    status, result = await faulty.order(letter["seq"], "redrive")
    assert (status, result["outcome"]) == (200, "postponed") and "away" in result["reason"]
    assert await faulty.letters(1) == [letter]

    faulty.error = RuntimeError("another fault")
    status, result = await faulty.order(letter["seq"], "redrive")
    assert (status, result["outcome"], result["tries"]) == (200, "failed", 2)
    (again,) = await faulty.letters(1)
    assert again["seq"] == result["again"] and again["tries"] == 2 and again["reason"] == "RuntimeError: another fault"

    faulty.error = None
    status, result = await faulty.order(again["seq"], "redrive")
    assert (status, result["outcome"], result["again"]) == (200, "handled", None)
    assert await world.until(asked["request_id"], "succeeded") == "succeeded"
    assert len(world.downstream.calls) == 1 and await faulty.letters(0) == []
    assert (await faulty.order(again["seq"], "redrive"))[0] == 404

    events = await faulty.entries("control.dead_letter_redriven", 3)
    assert [event["outcome"] for event in events] == ["postponed", "failed", "handled"]
    assert {(event["by"], event["reason"]) for event in events} == {("admin", "the fault is mended")}
    assert [event["seq"] for event in events] == [letter["seq"], letter["seq"], again["seq"]]
    assert len(await faulty.entries("deadletter", 2)) == 2


async def test_a_dropped_letter_is_gone_and_on_record_with_who_and_why(faulty: Faulty) -> None:
    await faulty.plant("fleet.person_changed.apr_1")
    (letter,) = await faulty.letters(1)
    assert letter["consumer"] == "approvals-people" and "CloudEvents" in letter["reason"]
    status, problem, _ = await faulty.world.request("POST", f"{LETTERS}/{letter['seq']}/drop", {"reason": ""})
    assert status == 422 and "reason" in problem["detail"]
    assert (await faulty.order(letter["seq"], "drop"))[0] == 200
    assert await faulty.letters(0) == []
    (dropped,) = await faulty.entries("control.dead_letter_dropped", 1)
    assert (dropped["by"], dropped["reason"]) == ("admin", "the fault is mended")
    assert (dropped["consumer"], dropped["stream_seq"]) == ("approvals-people", letter["stream_seq"])
    assert (await faulty.order(letter["seq"], "drop"))[0] == 404


async def test_an_export_verifies_after_letters_left_their_stream(faulty: Faulty) -> None:
    for n in range(3):
        await faulty.plant(f"fleet.person_changed.apr_{n}")
    letters = await faulty.letters(3)
    assert (await faulty.order(letters[1]["seq"], "drop"))[0] == 200
    await faulty.plant("fleet.person_changed.apr_9")
    await faulty.letters(3)
    await faulty.entries("deadletter", 4)
    lines: list[str] = []
    async with asyncio.timeout(15):
        while True:
            status, page, _ = await faulty.world.request("GET", "/api/v1/audit/export")
            if status == 200 and len(lines := page["lines"]) and "dead_letter_dropped" in "".join(lines):
                break
            await asyncio.sleep(0.1)
    assert page.get("next") is None
    assert verify_export(lines, faulty.world.stack.trust()).findings == ()


async def test_letters_are_listed_page_by_page_and_by_consumer(faulty: Faulty) -> None:
    for n in range(3):
        await faulty.plant(f"fleet.person_changed.apr_{n}")
    await faulty.plant("actions.granted.worker-1")
    await faulty.letters(5)  # executor and gateway each have one of the grant
    world, mine = faulty.world, await faulty.letters(3, consumer="approvals-people")
    assert [item["subject"] for item in mine] == [f"fleet.person_changed.apr_{n}" for n in range(3)]
    page = await world.ok("GET", f"{LETTERS}?limit=2&consumer=approvals-people")
    assert page["items"] == mine[:2] and page["next"] == mine[1]["seq"]
    page = await world.ok("GET", f"{LETTERS}?limit=2&consumer=approvals-people&after={page['next']}")
    assert page == {"items": mine[2:], "next": None}
    assert {i["consumer"] for i in await faulty.letters(2, stream="ACTIONS")} == {
        "executor-actions",
        "gateway-progress",
    }
    status, problem, _ = await world.request("GET", f"{LETTERS}?consumer=policy")
    assert status == 422 and "policy-actions, policy-approvals" in problem["detail"]
    async with asyncio.timeout(10):
        while 'countersign_dead_letters_open{consumer="approvals-people"} 3.0' not in metrics(world):
            await asyncio.sleep(0.05)
    assert 'countersign_messages_dead_total{consumer="gateway-progress"} 1.0' in metrics(world)


async def test_only_who_mends_sees_and_ends_them(faulty: Faulty) -> None:
    world = faulty.world
    for role in ("operator", "reader"):
        await world.add_person(role, role)
    await faulty.plant("fleet.person_changed.apr_1")
    (letter,) = await faulty.letters(1)
    for nobody in ("reader", "alice", "worker-1"):
        assert (await world.request("GET", LETTERS, as_=nobody))[0] == 403
        assert (await world.request("GET", f"{LETTERS}/{letter['seq']}", as_=nobody))[0] == 403
        for what in ("redrive", "drop"):
            assert (await faulty.order(letter["seq"], what, as_=nobody))[0] == 403
    assert await faulty.letters(1) == [letter]
    assert (await faulty.order(letter["seq"], "drop", as_="operator"))[0] == 200


async def test_a_service_that_is_away_is_named_and_the_letter_stays(faulty: Faulty) -> None:
    await faulty.plant("fleet.person_changed.apr_1")
    (letter,) = await faulty.letters(1)
    await faulty.entries("deadletter", 1)
    await faulty.world.services["approvals"].stop()
    status, problem = await faulty.order(letter["seq"], "redrive")
    assert status == 503 and "approvals service is not running" in problem["detail"]
    assert await faulty.letters(1) == [letter]
    (event,) = await faulty.entries("control.dead_letter_redriven", 1)
    assert event["outcome"] == "unanswered"


async def test_a_letter_that_the_ledger_does_not_have_yet_stays(faulty: Faulty) -> None:
    await faulty.world.services["audit"].stop()
    await faulty.plant("fleet.person_changed.apr_1")
    (letter,) = await faulty.letters(1)
    for what in ("redrive", "drop"):
        status, problem = await faulty.order(letter["seq"], what)
        assert status == 503, problem
    assert await faulty.letters(1) == [letter]


async def test_what_no_service_signed_is_shown_as_that_and_can_only_be_dropped(faulty: Faulty) -> None:
    policy = await faulty.world.stack.bus("policy")
    await policy.connection.client.publish("deadletter.ACTIONS.policy-actions", b"{}", headers={"ce-id": new_id()})
    (letter,) = await faulty.letters(1)
    assert letter["consumer"] == "policy-actions" and not letter["redrivable"]
    status, problem = await faulty.order(letter["seq"], "redrive")
    assert status == 409 and "no service's signature" in problem["detail"]
    assert (await faulty.order(letter["seq"], "drop"))[0] == 200
    assert await faulty.letters(0) == []


def metrics(world: World) -> str:
    found: str = world.services["gateway"].metrics.render().decode()
    return found
