"""The durable event path on a real nats-server: tried again, isolated, dead-lettered, kept, never looping."""

from __future__ import annotations

import asyncio
import base64
import time
from datetime import datetime
from typing import Any

import orjson
import pytest

from countersign_chassis import Delivery, RawDelivery, Service, ServiceSettings, consumer
from countersign_contracts.actions import Action, ActionRequested
from countersign_contracts.canonical import action_digest
from countersign_contracts.envelope import Envelope, seal
from countersign_contracts.errors import Malformed, Refused
from countersign_contracts.event import Event
from countersign_contracts.ids import new_id
from countersign_contracts.model import now

OF_THE_NEXT_VERSION = b',"of_the_next_version":true'


def requested(n: int = 0) -> ActionRequested:
    parts: dict[str, Any] = {"principal_chain": (), "env": "prod", "tool": "t", "tool_version": 1, "args": {"n": n}}
    digest = action_digest(agent="worker-1", session=None, **parts)
    action = Action(request_id=new_id(), agent_id="worker-1", digest=digest, requested_at=now(), **parts)
    return ActionRequested(action=action, channel="http", credential_id="c")


class Consuming:
    """A service that consumes as policy does, with a handler of the test's."""

    def __init__(self, stack: Any) -> None:
        self.service = Service("policy", ServiceSettings(**stack.settings("policy"), log_level="error"))
        self.seen: list[list[int]] = []
        self.changed = asyncio.Condition()
        self.fail: dict[int, Exception] = {}

    async def handle(self, batch: list[Delivery]) -> None:
        numbers = [d.event.action.args["n"] for d in batch]
        async with self.changed:
            self.seen.append(numbers)
            self.changed.notify_all()
        for number in numbers:
            if number in self.fail:
                raise self.fail[number]

    async def until(self, enough: Any, seconds: float = 15) -> None:
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(enough)

    def times(self, number: int) -> int:
        return sum(number in batch for batch in self.seen)


async def dead_letters(stack: Any, count: int, seconds: float = 15) -> list[Any]:
    client = await stack.client("bootstrap-core")
    found: list[Any] = []
    async with asyncio.timeout(seconds):
        while len(found) < count:
            query = orjson.dumps({"seq": len(found) + 1})
            reply = await client.request("$JS.API.STREAM.MSG.GET.DEADLETTER", query, timeout=2)
            message = orjson.loads(reply.data).get("message")
            if message is None:
                await asyncio.sleep(0.02)
            else:
                found.append(orjson.loads(base64.b64decode(message["data"])))
    return found


async def dead(stack: Any) -> int:
    """How many dead letters there are."""
    client = await stack.client("bootstrap-core")
    info = orjson.loads((await client.request("$JS.API.STREAM.INFO.DEADLETTER", b"", timeout=2)).data)
    return int(info["state"]["messages"])


async def pending(stack: Any) -> tuple[int, int]:
    client = await stack.client("bootstrap-core")
    info = orjson.loads((await client.request("$JS.API.CONSUMER.INFO.ACTIONS.policy-actions", b"", timeout=2)).data)
    return info["num_ack_pending"], info["num_pending"]


async def start(consuming: Consuming, **options: Any) -> None:
    consuming.service.consume("policy-actions", consuming.handle, **options)
    await consuming.service.start()


async def test_events_arrive_in_batches_and_are_acked(stack: Any) -> None:
    gateway = await stack.bus("gateway")
    await gateway.publish_all([(requested(n), None) for n in range(300)])
    consuming = Consuming(stack)
    await start(consuming, max_batch=64)
    await consuming.until(lambda: sum(map(len, consuming.seen)) >= 300)
    assert sorted(n for batch in consuming.seen for n in batch) == list(range(300))
    assert max(len(batch) for batch in consuming.seen) > 1
    async with asyncio.timeout(5):
        while await pending(stack) != (0, 0):
            await asyncio.sleep(0.02)
    await consuming.service.stop()


async def test_a_hiccup_is_tried_again_and_nothing_is_lost(stack: Any) -> None:
    gateway = await stack.bus("gateway")
    consuming = Consuming(stack)
    consuming.fail[1] = OSError("the database is away for a moment")
    await start(consuming)
    await gateway.publish(requested(1))
    await consuming.until(lambda: consuming.times(1) >= 3)
    consuming.fail.clear()
    count = consuming.times(1)
    await consuming.until(lambda: consuming.times(1) == count + 1)
    async with asyncio.timeout(5):
        while await pending(stack) != (0, 0):
            await asyncio.sleep(0.02)
    await consuming.service.stop()


async def test_one_poison_message_harms_no_other_and_ends_in_the_dead_letters(stack: Any) -> None:
    gateway = await stack.bus("gateway")
    consuming = Consuming(stack)
    consuming.fail[3] = RuntimeError("always")
    await gateway.publish_all([(requested(n), None) for n in range(6)])
    await start(consuming, max_tries=3)
    (letter,) = await dead_letters(stack, 1)
    assert letter["tries"] == 3 and "RuntimeError: always" in letter["reason"]
    assert letter["subject"] == "actions.requested.worker-1" and letter["consumer"] == "policy-actions"
    assert ActionRequested.from_bytes(base64.b64decode(letter["body"])).action.args == {"n": 3}
    async with asyncio.timeout(5):
        while await pending(stack) != (0, 0):
            await asyncio.sleep(0.02)
    await consuming.service.stop()


async def test_a_body_that_may_not_go_on_record_stays_out_of_the_dead_letters(stack: Any) -> None:
    gateway = await stack.bus("gateway")
    consuming = Consuming(stack)

    async def fail(batch: list[RawDelivery]) -> None:
        raise RuntimeError("always")

    consuming.service.consume_raw("policy-actions", fail, max_tries=1, bury_body=False)
    await gateway.publish(requested(1))
    await consuming.service.start()
    (letter,) = await dead_letters(stack, 1)
    assert letter["body"] == "" and letter["subject"] == "actions.requested.worker-1"
    await consuming.service.stop()


async def test_an_outage_is_no_poison(stack: Any) -> None:
    gateway = await stack.bus("gateway")
    consuming = Consuming(stack)
    consuming.fail[1] = ConnectionRefusedError("the database is away for long")
    await start(consuming, max_tries=2)
    await gateway.publish(requested(1))
    await consuming.until(lambda: consuming.times(1) >= 4)
    consuming.fail.clear()
    count = consuming.times(1)
    await consuming.until(lambda: consuming.times(1) > count)
    assert await dead(stack) == 0
    await consuming.service.stop()


async def test_what_is_wrong_for_good_is_not_tried_again(stack: Any) -> None:
    gateway = await stack.bus("gateway")
    consuming = Consuming(stack)
    consuming.fail[1] = Malformed("it will never be right")
    await start(consuming)
    await gateway.publish(requested(1))
    (letter,) = await dead_letters(stack, 1)
    assert letter["tries"] == 1 and consuming.times(1) == 1
    await consuming.service.stop()


async def test_forged_altered_and_unreadable_events_reach_no_handler(stack: Any) -> None:
    """Published by the gateway's own NATS user, so only the signatures stand in their way."""
    gateway = await stack.bus("gateway")
    consuming = Consuming(stack)
    await start(consuming)
    good = gateway.seal(requested(1))
    executor_key = stack.key("executor")
    from dataclasses import replace

    from countersign_contracts.envelope import seal_event

    forged = [
        replace(good, body=good.body.replace(b'"n":1', b'"n":2')),
        replace(good, id=good.id.replace("requested", "other")),
        replace(good, time="2020-01-01T00:00:00.000000Z"),
        replace(good, signature=b"\x00" * 64),
        replace(good, type="countersign.actions.granted.v1"),
        replace(good, keyid="nobody-000000000000"),
        seal_event(requested(9), time=now(), key=executor_key),
    ]
    for n, envelope in enumerate(forged):
        await gateway.publish_sealed([("actions.requested.worker-1", "ACTIONS", envelope)], attempt=f"forged-{n}")
    await gateway.connection.client.publish("actions.requested.worker-1", b"no headers at all")
    letters = await dead_letters(stack, len(forged) + 1)
    assert all(letter["tries"] == 1 for letter in letters)
    await gateway.publish(requested(5))
    await consuming.until(lambda: consuming.times(5) == 1)
    assert consuming.seen == [[5]]
    await consuming.service.stop()


async def publish_of_a_newer_version(stack: Any) -> None:
    """A request as the gateway of a later version might sign it: with a field that nobody knows yet."""
    gateway, event = await stack.bus("gateway"), requested(1)
    newer = seal(
        event.to_bytes()[:-1] + OF_THE_NEXT_VERSION + b"}",
        id=event.event_id(),
        type=event.spec.type,
        subject=event.about(),
        time=now(),
        key=stack.key("gateway"),
    )
    await gateway.publish_sealed([("actions.requested.worker-1", "ACTIONS", newer)], attempt="newer")


async def test_what_a_newer_version_wrote_is_left_for_a_replica_of_it(
    stack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "UNREADABLE_S", (0.05,) * 100)
    old, new = Consuming(stack), Consuming(stack)
    await start(old)
    await publish_of_a_newer_version(stack)
    client = await stack.client("bootstrap-core")
    async with asyncio.timeout(10):
        while True:  # until the older one has given it back
            reply = await client.request("$JS.API.CONSUMER.INFO.ACTIONS.policy-actions", b"", timeout=2)
            if orjson.loads(reply.data)["num_redelivered"]:
                break
            await asyncio.sleep(0.02)

    def reading(envelope: Envelope, arrived: datetime) -> Event:
        envelope.verify(new.service.trust, arrived)
        return ActionRequested.from_bytes(envelope.body.replace(OF_THE_NEXT_VERSION, b""))

    await start(new, opener=reading)
    await new.until(lambda: new.times(1) == 1)
    assert old.seen == []
    assert await dead(stack) == 0
    for each in (old, new):
        await each.service.stop()


async def test_what_no_version_reads_ends_in_the_dead_letters(stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "UNREADABLE_S", (0.05,) * 3)
    consuming = Consuming(stack)
    await start(consuming)
    await publish_of_a_newer_version(stack)
    (letter,) = await dead_letters(stack, 1)
    assert letter["tries"] == 4 and "of_the_next_version" in letter["reason"]
    assert consuming.seen == []
    await consuming.service.stop()


async def test_a_detached_delivery_is_kept_beyond_the_ack_wait_until_it_is_settled(stack: Any) -> None:
    from countersign_contracts import topology

    gateway = await stack.bus("gateway")
    client = await stack.client("bootstrap-core")
    spec = topology.consumer("policy-actions")
    config: dict[str, Any] = {"durable_name": spec.name, "name": spec.name, "filter_subjects": list(spec.filters)}
    config |= {"ack_policy": "explicit", "ack_wait": 1_000_000_000, "max_deliver": -1, "max_ack_pending": 2048}
    config |= {"max_waiting": 512, "deliver_policy": "all", "replay_policy": "instant"}
    body = orjson.dumps({"stream_name": "ACTIONS", "config": config, "action": ""})
    reply = orjson.loads((await client.request("$JS.API.CONSUMER.CREATE.ACTIONS.policy-actions", body, timeout=2)).data)
    assert "error" not in reply, reply
    kept: list[Delivery] = []
    service = Service("policy", ServiceSettings(**stack.settings("policy"), log_level="error"))

    async def handle(batch: list[Delivery]) -> None:
        for delivery in batch:
            delivery.detach()
            kept.append(delivery)

    consumer = service.consume("policy-actions", handle)
    consumer.spec = topology.Consumer(spec.stream, spec.name, spec.service, spec.filters, ack_wait_s=1)
    await service.start()
    await gateway.publish(requested(1))
    began = time.monotonic()
    async with asyncio.timeout(10):
        while time.monotonic() - began < 3.5:
            await asyncio.sleep(0.1)
    assert [d.tries for d in kept] == [1]
    await kept[0].ack()
    async with asyncio.timeout(5):
        while await pending(stack) != (0, 0):
            await asyncio.sleep(0.02)
    await service.stop()


async def test_after_the_server_was_killed_and_came_back_events_flow_again(stack: Any) -> None:
    gateway = await stack.bus("gateway")
    consuming = Consuming(stack)
    await start(consuming)
    await gateway.publish(requested(1))
    await consuming.until(lambda: consuming.times(1) >= 1)
    url = stack.nats_url
    await asyncio.to_thread(stack.nats.stop)
    assert any("nats-server does not answer" in reason for reason in await unready(consuming.service))
    config = stack.layout.nats_config
    config.write_text(config.read_text().replace("port: -1", f"port: {url.rsplit(':', 1)[1]}"))
    await asyncio.to_thread(stack.nats.start)
    await gateway.publish(requested(2))
    await consuming.until(lambda: consuming.times(2) >= 1, 20)
    await consuming.service.stop()


async def test_a_consumer_that_is_gone_shows_and_events_flow_once_it_is_made_anew(stack: Any) -> None:
    """What JetStream held may be wiped at any time, and made anew by the bootstrap step."""
    gateway = await stack.bus("gateway")
    consuming = Consuming(stack)
    await start(consuming)
    client = await stack.client("bootstrap-core")
    gone = await client.request("$JS.API.CONSUMER.DELETE.ACTIONS.policy-actions", b"", timeout=2)
    assert orjson.loads(gone.data)["success"]
    assert await unready(consuming.service) == ["consumer policy-actions of stream ACTIONS is gone from nats-server"]
    await stack.apply_topology()
    await gateway.publish(requested(1))
    await consuming.until(lambda: consuming.times(1) == 1)
    assert consuming.service.unready() == []
    await consuming.service.stop()


async def unready(service: Service) -> list[str]:
    async with asyncio.timeout(10):
        while not (reasons := service.unready()):
            await asyncio.sleep(0.02)
    return reasons


async def test_a_consumer_that_differs_from_the_topology_stops_the_start(stack: Any) -> None:
    client = await stack.client("bootstrap-core")
    await client.request("$JS.API.CONSUMER.DELETE.ACTIONS.policy-actions", b"", timeout=2)
    consuming = Consuming(stack)
    consuming.service.consume("policy-actions", consuming.handle)
    with pytest.raises(Refused, match="bootstrap applies the topology"):
        await consuming.service.start()
    await consuming.service.stop()
