"""What the server lets each service do in account CORE: exactly its part, asked of a real nats-server.

What is expected is read off the events, commands and buckets; what is found went through permissions, user JWTs and the
server. Each expectation names what is refused *and* what is not, so a server that refuses everything fails too.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import nats.js.errors
import pytest

from countersign_contracts import subjects, topology
from countersign_contracts.command import COMMANDS
from countersign_contracts.control import DeadLettered
from countersign_contracts.event import EVENTS, SERVICES
from countersign_contracts.projection import BUCKETS
from countersign_harness.forging import matches
from countersign_harness.harmful import harmful

if TYPE_CHECKING:
    from .conftest import Deployment

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.parametrize("service", SERVICES)]

#: A subject of each event, and who emits it.
EVENT_SUBJECTS = {
    kind.spec.subject.format(token="mallory"): set(kind.spec.emitters)
    for kind in EVENTS.values()
    if kind is not DeadLettered
}
DEAD_LETTERS = {f"deadletter.{c.stream}.{c.name}": c.service for c in topology.CONSUMERS}
COMMAND_SUBJECTS = {command.rpc.subject: command.rpc for command in COMMANDS.values()}
CORE_STREAMS = [stream.name for stream in topology.STREAMS if stream.account == "CORE"]
EVERY_STREAM = [*CORE_STREAMS, *(f"KV_{bucket.name}" for bucket in BUCKETS)]


async def test_an_event_is_taken_from_who_emits_it_alone(deployment: Deployment, service: str) -> None:
    line = await deployment.line(f"{service}-core")
    refused = await line.refused_to_say(EVENT_SUBJECTS)
    assert refused == {subject for subject, emitters in EVENT_SUBJECTS.items() if service not in emitters}


async def test_a_dead_letter_is_taken_from_the_consumer_s_service_alone(deployment: Deployment, service: str) -> None:
    line = await deployment.line(f"{service}-core")
    refused = await line.refused_to_say(DEAD_LETTERS)
    assert refused == {subject for subject, owner in DEAD_LETTERS.items() if owner != service}


async def test_a_command_is_taken_from_who_may_ask_alone(deployment: Deployment, service: str) -> None:
    line = await deployment.line(f"{service}-core")
    refused = await line.refused_to_say(COMMAND_SUBJECTS)
    assert refused == {subject for subject, rpc in COMMAND_SUBJECTS.items() if service not in rpc.callers}


@pytest.mark.parametrize("queue", ["", "executor"])
async def test_a_command_is_heard_by_who_answers_it_alone(deployment: Deployment, service: str, queue: str) -> None:
    line = await deployment.line(f"{service}-core")
    refused = await line.refused_to_hear(COMMAND_SUBJECTS, queue)
    assert refused == {subject for subject, rpc in COMMAND_SUBJECTS.items() if rpc.service != service}


async def test_nobody_hears_what_another_is_answered(deployment: Deployment, service: str) -> None:
    line = await deployment.line(f"{service}-core")
    others = {f"{subjects.inbox(other)}.>" for other in SERVICES if other != service}
    others |= {f"{subjects.inbox(other)}.abc.*" for other in SERVICES if other != service}
    too_wide = {">", "*.>", "_INBOX.>", "_INBOX.*.>", "rpc.>", "rpc.*.*"}
    own = {f"{subjects.inbox(service)}.>", f"{subjects.inbox(service)}.abc"}
    assert await line.refused_to_hear([*others, *too_wide, *own]) == others | too_wide


async def test_an_answer_goes_to_who_may_have_asked_alone(deployment: Deployment, service: str) -> None:
    line = await deployment.line(f"{service}-core")
    inboxes = {f"{subjects.inbox(other)}.abc.1": other for other in (*SERVICES, "bootstrap", "mallory")}
    askers = {caller for rpc in COMMAND_SUBJECTS.values() if rpc.service == service for caller in rpc.callers}
    assert await line.refused_to_say(inboxes) == {inbox for inbox, other in inboxes.items() if other not in askers}


async def test_events_are_heard_through_consumers_alone_but_for_what_the_gateway_passes_on_live(
    deployment: Deployment, service: str
) -> None:
    line = await deployment.line(f"{service}-core")
    kept = {s for stream in topology.STREAMS if stream.account == "CORE" for s in stream.subjects}
    wide = {"actions.>", "actions.granted.*", "$KV.>", "$JS.>", "$JS.EVENT.>", "$SYS.>", "agents.>"}
    concrete = set(EVENT_SUBJECTS)
    if service == "gateway":
        overheard = topology.FINAL_SUBJECTS + topology.APPROVAL_SUBJECTS + topology.AGENT_CHANGE_SUBJECTS
        kept -= set(overheard)
        concrete = {subject for subject in concrete if not any(matches(pattern, subject) for pattern in overheard)}
    assert await line.refused_to_hear(kept | wide | concrete) == kept | wide | concrete


async def test_a_record_is_taken_from_the_bucket_s_owner_alone(deployment: Deployment, service: str) -> None:
    line = await deployment.line(f"{service}-core")
    records = {f"$KV.{bucket.name}.mallory": bucket for bucket in BUCKETS}
    refused = await line.refused_to_say(records, headers={"Nats-Expected-Stream": "none"})
    assert refused == {subject for subject, bucket in records.items() if bucket.owner != service}


async def test_a_consumer_s_messages_go_to_its_service_alone(deployment: Deployment, service: str) -> None:
    line = await deployment.line(f"{service}-core")
    in_core = [c for c in topology.CONSUMERS if c.stream in CORE_STREAMS]
    pulls = {f"$JS.API.CONSUMER.MSG.NEXT.{c.stream}.{c.name}": c.service for c in in_core}
    acks = {f"$JS.ACK.{c.stream}.{c.name}.1.1.1.1.0": c.service for c in in_core}
    foreign = {subject for subject, owner in (pulls | acks).items() if owner != service}
    no_wait = json.dumps({"batch": 1, "no_wait": True}).encode()
    assert await line.refused_to_say(pulls | acks, payload=no_wait) == foreign


async def test_the_server_is_administered_by_no_service(deployment: Deployment, service: str) -> None:
    line = await deployment.line(f"{service}-core")
    verbs = ("CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE", "SNAPSHOT", "RESTORE", "LEADER.STEPDOWN")
    calls = {f"$JS.API.STREAM.{verb}.{stream}" for verb in verbs for stream in (*EVERY_STREAM, "NEW")}
    calls |= {f"$JS.API.CONSUMER.{verb}.{s}.c" for verb in ("CREATE", "DURABLE.CREATE", "DELETE") for s in CORE_STREAMS}
    calls |= {f"$JS.API.CONSUMER.CREATE.{stream}" for stream in CORE_STREAMS}
    calls |= {f"$JS.API.CONSUMER.{verb}.{s}.c" for verb in ("PAUSE", "UNPIN", "LEADER.STEPDOWN") for s in EVERY_STREAM}
    calls |= {f"$JS.API.CONSUMER.{verb}.{stream}" for verb in ("NAMES", "LIST") for stream in EVERY_STREAM}
    calls |= {"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.ACCOUNT.PURGE.CORE"}
    calls |= {"$JS.API.META.LEADER.STEPDOWN", "$JS.API.SERVER.REMOVE", "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO"}
    if service == "gateway":
        calls.remove("$JS.API.STREAM.MSG.DELETE.DEADLETTER")  # what people redrove or dropped
    assert await line.refused_to_say(calls) == calls
    assert set((await deployment.api("CORE", "STREAM.NAMES"))["streams"]) == set(EVERY_STREAM)


async def test_a_stream_is_read_by_sequence_by_audit_and_the_dead_letters_by_the_gateway_too(
    deployment: Deployment, service: str
) -> None:
    line = await deployment.line(f"{service}-core")
    gets = {f"$JS.API.STREAM.MSG.GET.{stream}" for stream in CORE_STREAMS}
    read = {"audit": gets, "gateway": {"$JS.API.STREAM.MSG.GET.DEADLETTER"}}.get(service, set())
    assert await line.refused_to_say(gets, payload=b'{"seq":1}') == gets - read
    assert await line.refused_to_say({"$JS.API.STREAM.MSG.GET.KV_people"}) == {"$JS.API.STREAM.MSG.GET.KV_people"}


async def test_a_bucket_is_read_by_its_owner_and_readers_alone(deployment: Deployment, service: str) -> None:
    line = await deployment.line(f"{service}-core")
    reads = {f"$JS.API.DIRECT.GET.KV_{bucket.name}.$KV.{bucket.name}.key": bucket for bucket in BUCKETS}
    follows = {f"$JS.API.CONSUMER.CREATE.KV_{bucket.name}.c": bucket for bucket in BUCKETS}
    assert await line.refused_to_say(reads) == {
        subject for subject, bucket in reads.items() if service not in (bucket.owner, *bucket.readers)
    }
    assert await line.refused_to_say(follows) == {
        subject for subject, bucket in follows.items() if service not in bucket.readers
    }


async def test_the_other_account_is_out_of_reach(deployment: Deployment, service: str) -> None:
    line = await deployment.line(f"{service}-core")
    said = {f"agents.mallory.{verb}" for verb in subjects.AGENT_PUBLISHES} | {"agents.mallory.results.r1"}
    heard = {"agents.*.actions", "agents.*.heartbeat", "agents.mallory.results.>"}
    assert await line.refused_to_say(said) == said
    assert await line.refused_to_hear(heard) == heard


async def test_a_header_that_reaches_further_is_refused_by_the_stream(deployment: Deployment, service: str) -> None:
    line = await deployment.line(f"{service}-core")
    own = next(subject for subject, emitters in EVENT_SUBJECTS.items() if service in emitters)
    stream = next(s.name for s in topology.STREAMS if own.split(".")[0] in {t.split(".")[0] for t in s.subjects})
    jetstream = line.client.jetstream(timeout=3)
    await jetstream.publish(own, b"kept")
    before = await deployment.messages("CORE", stream)
    for headers in harmful("actions.granted.mallory").values():
        with pytest.raises(nats.js.errors.APIError):
            await jetstream.publish(own, b"refused", headers=headers)
    assert await deployment.messages("CORE", stream) == before


async def test_a_trace_goes_nowhere_its_sender_may_not_write(deployment: Deployment, service: str) -> None:
    line = await deployment.line(f"{service}-core")
    foreign = next(subject for subject, emitters in EVENT_SUBJECTS.items() if service not in emitters)
    own = next(subject for subject, emitters in EVENT_SUBJECTS.items() if service in emitters)
    line.refusals.clear()
    await line.client.publish(own, b"traced", headers={"Nats-Trace-Dest": foreign})
    async with asyncio.timeout(5):
        while not line.refusals:
            await line.client.flush()
    assert f'publish to "{foreign}"' in line.refusals[0]
