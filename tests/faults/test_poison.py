"""Poison on every subject that a service consumes: it ends after a bounded number of tries, where people see it.

The messages are mutations of what really travelled. Some are signed by the service that may sign such an event, as a
service with a fault would; the rest is whatever its NATS user lets it publish. Agents send theirs to their own
subjects. Afterwards nothing is redelivered any more, good actions pass as before, and nothing bad had an effect.
"""

from __future__ import annotations

import asyncio
import copy
import json
import random
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from nats.aio.client import Client

from countersign_chassis import consumer
from countersign_chassis.stored import read_headers
from countersign_contracts.envelope import seal
from countersign_contracts.event import CORE_SERVICES, EVENTS
from countersign_contracts.ids import is_request_id, new_id
from countersign_contracts.model import now, rfc3339
from countersign_contracts.subjects import AGENT_PUBLISHES
from countersign_contracts.topology import CONSUMERS, STREAMS
from countersign_harness.alerts import tell_of_an_alert
from countersign_harness.world import World

MAX_TRIES = 8
RUNNING = [each for each in CONSUMERS if each.service in CORE_SERVICES]
MUTANTS_OF_EACH = 20
JUNK_OF_EACH = 5

#: What stands in place of a value. What JSON can say and a database, a date or a float cannot is the most telling.
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**53,
    2**63,
    10**40,
    1e308,
    "",
    "\x00",
    "a\x00b",
    "\ud800",
    "\uffff",
    "\u202e",
    "x" * 5000,
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999-23:59",
    "*",
    "a.b",
    [],
    {},
    [[]],
    {"": None},
    {"a": {"b": {"c": [1, 2, {"d": "\x00"}]}}},
)
_DEEP = "@deep@"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of everything inside a JSON value."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from places(child, (*path, key))


def mutant(original: bytes, dice: random.Random) -> bytes:
    """The same body with one to three things in it replaced, taken out or added; sometimes not even JSON."""
    value = copy.deepcopy(json.loads(original))
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        paths = list(places(value))
        if not paths:
            break
        *above, last = dice.choice(paths)
        parent = value
        for key in above:
            parent = parent[key]
        match dice.randrange(6):
            case 0:
                del parent[last]
            case 1 if isinstance(parent, dict):
                parent[dice.choice(("unknown", "\x00", "__proto__", "ünï"))] = copy.deepcopy(dice.choice(VALUES))
            case 2:
                parent[last] = _DEEP
            case _:
                parent[last] = copy.deepcopy(dice.choice(VALUES))
    text = json.dumps(value).replace(f'"{_DEEP}"', "[" * 3000 + "]" * 3000).encode()
    match dice.randrange(12):
        case 0:
            return text[: dice.randrange(len(text))]
        case 1:
            at = dice.randrange(len(text))
            return text[:at] + bytes([dice.randrange(256)]) + text[at + 1 :]
    return text


def junk(dice: random.Random) -> tuple[bytes, dict[str, str]]:
    """A body and headers of nobody's."""
    body = dice.choice((b"", b"{}", b"null", b"[]", b"0", b'"\\ud800"', b"\xff\xfe", dice.randbytes(300), b"[" * 20000))
    names = ("ce-id", "ce-type", "ce-source", "ce-subject", "ce-time", "ce-keyid", "ce-signature", "traceparent")
    values = ("", " ", "é", "x" * 3000, "countersign.actions.granted.v1", "2026-01-01T00:00:00Z", "%%%", "\x01")
    return body, {name: dice.choice(values) for name in dice.sample(names, dice.randrange(len(names) + 1))}


@dataclass(frozen=True)
class Original:
    """A message that really travelled."""

    stream: str
    subject: str
    headers: dict[str, str]
    body: bytes


class Poisoning:
    """Plants messages, and remembers where."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self.world, self.dice = world, dice
        self.planted: set[tuple[str, int]] = set()
        self._admin: dict[str, Client] = {}

    async def ask(self, account: str, verb: str, body: Any = None) -> Any:
        """A question about the account's streams."""
        if account not in self._admin:
            self._admin[account] = await self.world.stack.client(f"bootstrap-{account.lower()}")
        reply = await self._admin[account].request(
            f"$JS.API.{verb}", orjson.dumps(body) if body is not None else b"", timeout=5
        )
        return orjson.loads(reply.data)

    async def originals(self) -> list[Original]:
        """One message of each subject's kind that is in the streams of account CORE."""
        found: dict[str, Original] = {}
        for stream in sorted({c.stream for c in CONSUMERS} - {"INGRESS", "DEADLETTER"}):
            seq = 1
            while message := (
                await self.ask("CORE", f"STREAM.MSG.GET.{stream}", {"seq": seq, "next_by_subj": ">"})
            ).get("message"):
                seq = message["seq"] + 1
                headers = read_headers(b64decode(message.get("hdrs", "")))
                kind = headers.get("ce-type", "")
                found[kind] = Original(stream, message["subject"], headers, b64decode(message["data"]))
        return list(found.values())

    async def as_a_service_with_a_fault(self, original: Original) -> None:
        """Signed, so that nothing but the body stands in its way."""
        service = original.headers["ce-source"].rpartition("/")[2]
        bus = await self.world.stack.bus(service)
        about = original.headers["ce-subject"]
        for n in range(MUTANTS_OF_EACH):
            # of half of them nobody has heard: no stored answer stands between them and a table
            other = new_id() if n % 2 and is_request_id(about) else about
            envelope = seal(
                mutant(original.body.replace(about.encode(), other.encode()), self.dice),
                id=original.headers["ce-id"].replace(about, other),
                type=original.headers["ce-type"],
                subject=other,
                time=now(),
                key=self.world.stack.key(service),
            )
            await self._publish(bus.connection.client, original, envelope.body, envelope.headers())
        for _ in range(JUNK_OF_EACH):
            body, headers = junk(self.dice)
            await self._publish(bus.connection.client, original, body, headers)

    async def _publish(self, client: Any, original: Original, body: bytes, headers: dict[str, str]) -> None:
        headers = headers | {"Nats-Msg-Id": new_id()}
        reply = await client.request(original.subject, body, timeout=5, headers=headers)
        ack = orjson.loads(reply.data)
        self.planted.add((ack["stream"], ack["seq"]))

    async def as_an_agent(self, agent_id: str) -> None:
        """Everything it may publish, to everything it may publish on."""
        client = await self.world.stack.client(agent_id, self.world.creds[agent_id])
        for verb in AGENT_PUBLISHES:
            for n in range(MUTANTS_OF_EACH + JUNK_OF_EACH):
                good: dict[str, Any] = {"request_id": new_id(), "tool": "read_thing", "args": {"thing_id": 1}}
                good |= {"env": "nowhere", "reason": "r", "session_id": "s", "on_behalf_of": ["person:x"]}
                good = self._telemetry().get(verb, good)
                body, headers = mutant(json.dumps(good).encode(), self.dice), dict[str, str]()
                if n < JUNK_OF_EACH:
                    body, headers = junk(self.dice)
                await client.publish(f"agents.{agent_id}.{verb}", body, headers=headers or None)
        await client.flush()

    def _telemetry(self) -> dict[str, dict[str, Any]]:
        said = {"batch": new_id(), "at": rfc3339(now())}
        record = {"at": said["at"], "level": "info", "text": "t", "logger": "l", "fields": {"a": 1, "b": "c"}}
        report = {"interval_s": 60, "events_failed": 1, "processing_s": 0.5, "memory_bytes": 7, "values": {"a": 1.5}}
        return {"logs": {"batch": said["batch"], "records": [record, record]}, "metrics": said | report}

    async def until_quiet(self) -> None:
        """Until every consumer has settled everything; fails if one never does."""
        stream_of = {stream.name: stream for stream in STREAMS}
        for each in RUNNING:
            async with asyncio.timeout(100):
                while True:
                    verb = f"CONSUMER.INFO.{each.stream}.{each.name}"
                    info = await self.ask(stream_of[each.stream].account, verb)
                    if (info["num_pending"], info["num_ack_pending"], info["num_redelivered"]) == (0, 0, 0):
                        break
                    await asyncio.sleep(0.2)

    async def letters(self) -> list[Any]:
        """Every dead letter."""
        found: list[Any] = []
        after: int | None = 0
        while after is not None:
            page = await self.world.ok("GET", f"/api/v1/deadletters?limit=100&after={after}")
            found += page["items"]
            after = page["next"]
        return found


async def every_way(world: World) -> None:
    """A good action each: allowed, denied, held and approved, held and cancelled; over both doors."""
    assert (await world.submit("read_thing", {"thing_id": 1}))["state"] == "succeeded"
    assert (await world.submit("write_thing", {"thing_id": 1, "note": "not a field of its"}))["state"] == "denied"
    held = await world.submit("write_thing", {"thing_id": 1, "status": "x"}, env="prod", wait=0)
    status, answer = await world.vote(await world.approval_of(held["request_id"]), "approve")
    assert status == 200, answer
    assert await world.until(held["request_id"], "succeeded") == "succeeded"
    held = await world.submit("write_thing", {"thing_id": 1, "status": "x"}, env="prod", wait=0)
    await world.approval_of(held["request_id"])
    await world.ok("POST", f"/api/v1/actions/{held['request_id']}/cancel", {"reason": "no more"})
    async with world.agent() as agent:
        assert (await agent.call("read_thing", {"thing_id": 2}, env="dev")).state == "succeeded"
        queued = await agent.submit("read_thing", {"thing_id": 3}, env="dev")
        assert (await agent.wait(queued.request_id, 30)).state == "succeeded"


CALLS = 4  # of every_way


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [1])
async def test_poison_on_every_subject_ends_and_what_comes_after_it_is_heard(
    world: World, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # eight minutes are for replicas of a newer version, and there are none
    monkeypatch.setattr(consumer, "UNREADABLE_S", (0.05,) * (MAX_TRIES - 1))
    poisoning = Poisoning(world, random.Random(seed))
    await every_way(world)
    await tell_of_an_alert(world.stack)
    originals = await poisoning.originals()
    consumed = {"requested", "granted", "executed", "held", "denied", "cancelled", "resolved"}
    assert consumed <= {original.subject.split(".")[1] for original in originals}
    assert {original.headers["ce-type"] for original in originals} <= EVENTS.keys()

    for original in originals:
        await poisoning.as_a_service_with_a_fault(original)
    await poisoning.as_an_agent("worker-2")
    await poisoning.until_quiet()

    # a request that the gateway signs is a request, whoever heard of it; without policy's word nothing has an effect
    keys = [call["key"] for call in world.downstream.calls]
    assert len(keys) == len(set(keys)) >= CALLS
    for key in keys:
        trail = await world.ok("GET", f"/api/v1/audit/timeline?request_id={key}&kind=actions.granted")
        assert trail["items"], f"{key} was executed and never granted"
    letters = await poisoning.letters()
    assert {letter["consumer"] for letter in letters} >= {
        each.name for each in RUNNING if each.service != "audit" and each.stream not in ("INGRESS", "TELEMETRY")
    }
    for letter in letters:
        assert (letter["stream"], letter["stream_seq"]) in poisoning.planted, letter
        assert 1 <= letter["tries"] <= MAX_TRIES and letter["reason"] and letter["subject"], letter
    places_of = [(letter["consumer"], letter["stream_seq"]) for letter in letters]
    assert len(places_of) == len(set(places_of)), "a message died twice"

    await every_way(world)
    assert len(world.downstream.calls) == len(keys) + CALLS
    assert {name: service.unready() for name, service in world.services.items()} == {
        name: [] for name in world.services
    }
