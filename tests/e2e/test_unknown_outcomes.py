"""An outcome that nobody knows: shown, looked up where the tool declares how, never called again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from countersign_harness.stack import Stack
from countersign_harness.world import World

_TOOL = """
kind: tool
name: {name}
effect: write
idempotent: false
arguments:
  type: object
  additionalProperties: false
  properties: {{text: {{type: string}}}}
http: {{method: POST, url: "URL/letters", body: [text], allow_private: true, timeout_s: 20}}
probe:
  tool: find_letter
  args: {{key: "{{request_id}}"}}
  after_s: {after_s}
  happened_when: {{path: letter.sent, equals: true}}
  not_happened_when: {{status: 404}}
---
"""
TOOLS = (
    _TOOL.format(name="send_letter", after_s=0)
    + _TOOL.format(name="send_parcel", after_s=86400)
    + _TOOL.format(name="send_secret", after_s=0).replace("{type: string}", "{type: string, x-sensitive: true}")
    + """
kind: tool
name: find_letter
effect: read
arguments:
  type: object
  additionalProperties: false
  required: [key]
  properties: {key: {type: string}}
http: {method: GET, url: "URL/sent/{key}", path: [key], allow_private: true}
---
kind: profile
name: worker
environments: [dev]
tools: [send_letter, send_parcel, send_secret]
"""
)
MAX_PROBES = 2


class Letters:
    """A world with a letter service that loses its answers."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def send(self, tool: str = "send_letter") -> str:
        """The letter is sent, and nobody hears of it."""
        self.world.downstream.drop_after_effect = True
        asked = await self.world.submit(tool, {"text": "hello"}, wait=0)
        request_id: str = asked["request_id"]
        await self.world.until(request_id, "unknown", "succeeded", "failed", seconds=30)
        return request_id

    def answers(self, status: int, answer: Any) -> None:
        """From now on it answers."""
        downstream = self.world.downstream
        downstream.drop_after_effect, downstream.status, downstream.answer = False, status, answer

    def effects(self) -> int:
        """How many letters were sent."""
        return sum(call["method"] == "POST" for call in self.world.downstream.calls)

    def lookups(self, request_id: str) -> int:
        """How often that one was looked up."""
        return sum(call["path"] == f"/sent/{request_id}" for call in self.world.downstream.calls)

    async def reconciled(self, request_id: str) -> Any:
        """What the ledger says of how it was reconciled."""
        async with asyncio.timeout(30):
            while True:
                trail = await self.world.ok(
                    "GET", f"/api/v1/audit/timeline?request_id={request_id}&kind=actions.reconciled"
                )
                if trail["items"]:
                    (entry,) = trail["items"]
                    return entry["body"]
                await asyncio.sleep(0.05)

    async def unknown(self) -> list[str]:
        """`countersign actions list --state unknown`."""
        page = await self.world.ok("GET", "/api/v1/actions?state=unknown")
        return [item["request_id"] for item in page["items"]]

    async def until_metric(self, line: str) -> None:
        """Wait until the executor's metrics have the line."""
        async with asyncio.timeout(30):
            while line not in self.world.services["executor"].metrics.render().decode():
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture
async def letters(stack: Stack) -> AsyncIterator[Letters]:
    probes = {"max_probes": MAX_PROBES, "probe_interval_s": 0.1, "probe_first_pause_s": 1.0}
    async with World(stack) as world:
        await world.start(overrides={"executor": probes, "gateway": {"redrive_after_s": 600}})
        result = await world.apply({"letters.yaml": TOOLS})
        assert result["errors"] == [], result
        yield Letters(world)


async def test_a_probe_finds_that_it_happened_and_there_is_one_effect(letters: Letters) -> None:
    letters.world.downstream.gate.clear()
    sending = asyncio.create_task(letters.send())
    async with asyncio.timeout(15):
        while letters.effects() == 0:
            await asyncio.sleep(0.01)
    letters.world.downstream.gate.set()
    request_id = await sending
    letters.answers(200, {"letter": {"sent": True, "to": "somebody"}})
    assert await letters.world.until(request_id, "succeeded", seconds=30) == "succeeded"
    assert letters.effects() == 1
    event = await letters.reconciled(request_id)
    assert (event["outcome"], event["by"]) == ("succeeded", "probe:find_letter")
    evidence = event["probe"]
    assert (evidence["tool"], evidence["status_code"], evidence["path"]) == ("find_letter", 200, "letter.sent")
    assert evidence["value"] is True and 1 <= evidence["probes"] <= MAX_PROBES and evidence["response_sha256"]
    await letters.until_metric("countersign_outcomes_unknown 0.0")
    assert await letters.unknown() == []


async def test_of_an_answer_that_may_show_a_sensitive_argument_no_hash_is_evidence(letters: Letters) -> None:
    request_id = await letters.send("send_secret")
    letters.answers(200, {"letter": {"sent": True, "text": "hello"}})
    evidence = (await letters.reconciled(request_id))["probe"]
    assert evidence["value"] is True and evidence.get("response_sha256") is None and "hello" not in str(evidence)


async def test_a_probe_finds_that_it_did_not_happen_and_the_reason_says_so(letters: Letters) -> None:
    request_id = await letters.send()
    letters.answers(404, {"detail": "no such letter"})
    assert await letters.world.until(request_id, "failed", seconds=30) == "failed"
    found = await letters.world.ok("GET", f"/api/v1/actions/{request_id}")
    assert "probe:find_letter found that it failed" in found["reason"] and "not_happened_when" in found["reason"]
    assert (await letters.reconciled(request_id))["probe"]["status_code"] == 404
    assert letters.effects() == 1


async def test_what_a_probe_cannot_tell_stays_unknown_until_a_person_does(letters: Letters) -> None:
    """The lookups are bounded; a tool whose time has not come is not looked up at all."""
    parcel = await letters.send("send_parcel")
    letters.answers(500, {"letter": {"sent": True}})
    letters.world.downstream.drop_after_effect = True
    first = await letters.send()
    letters.answers(500, {"letter": {"sent": True}})
    await letters.until_metric(f'countersign_probes_total{{said="inconclusive"}} {MAX_PROBES}.0')
    await letters.until_metric("countersign_outcomes_unknown 2.0")

    second = await letters.send()
    letters.answers(200, {"letter": {"sent": True}})
    assert await letters.world.until(second, "succeeded", seconds=30) == "succeeded"
    lookups = letters.lookups(first)
    assert lookups <= MAX_PROBES * 4  # a lookup whose connection is lost is repeated, as of any tool that reads
    assert letters.lookups(parcel) == 0
    assert sorted(await letters.unknown()) == sorted([parcel, first])

    body = {"outcome": "failed", "note": "the letter lies here"}
    await letters.world.ok("POST", f"/api/v1/actions/{first}/reconcile", body)
    assert await letters.world.until(first, "failed") == "failed"
    assert letters.lookups(first) == lookups and letters.effects() == 3
    assert "probe" not in await letters.reconciled(first)
