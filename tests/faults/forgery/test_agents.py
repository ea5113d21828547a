"""What an agent tries with its own good credentials, on the running product: no call, nobody else harmed, and shown.

That the server refuses each subject is in `tests/contract/test_agent_permissions.py`; here, what gets through.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import nats.js.errors
import pytest
from nats.aio.client import Client

from countersign_contracts import subjects
from countersign_contracts.command import COMMANDS
from countersign_contracts.control import Checkpointed
from countersign_contracts.event import EVENTS
from countersign_contracts.ids import new_id
from countersign_harness.forging import Forgery
from countersign_harness.plain_client import PlainClient

if TYPE_CHECKING:
    from .conftest import Scene

#: What the server would do with a message beyond keeping it, if it let it (NATS ADR-9, ADR-43, ADR-49, ADR-51).
REACHING: dict[str, dict[str, str]] = {
    "schedule": {"Nats-Schedule": "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target": "actions.granted.worker-1"},
    "schedule onto another": {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "agents.worker-2.actions"},
    "purge of a schedule": {"Nats-Schedule-Next": "purge", "Nats-Scheduler": "agents.worker-2.actions"},
    "rollup of the subject": {"Nats-Rollup": "sub"},
    "rollup of the stream": {"Nats-Rollup": "all"},
    "another stream": {"Nats-Expected-Stream": "ACTIONS"},
    "another last id": {"Nats-Expected-Last-Msg-Id": "none"},
    "another last sequence": {"Nats-Expected-Last-Sequence": "4096"},
    "another last of a subject": {"Nats-Expected-Last-Subject-Sequence": "4096"},
    "time to live": {"Nats-TTL": "1s"},
    "counter": {"Nats-Incr": "+1"},
    "batch": {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1"},
}


async def mallory(scene: Scene, refusals: list[str]) -> Client:
    """Agent worker-1, gone bad, on a plain connection."""

    async def told(error: Exception) -> None:
        refusals.append(str(error))

    return await PlainClient.connected(
        scene.world.stack.nats_url,
        user_credentials=str(scene.world.creds["worker-1"]),
        inbox_prefix=subjects.inbox("worker-1"),
        error_cb=told,
    )


def a_submission(**more: Any) -> bytes:
    return json.dumps(
        {"tool": "read_thing", "args": {"thing_id": 9}, "env": "dev", "request_id": new_id(), **more}
    ).encode()


async def kept(scene: Scene) -> dict[str, int]:
    """How much the streams hold, without what audit says by the clock."""
    streams = {stream: await scene.bench.messages(stream) for stream in ("ACTIONS", "APPROVALS", "FLEET", "CONTROL")}
    return {
        stream: sum(message.subject != Checkpointed.spec.subject for message in messages)
        for stream, messages in streams.items()
    }


async def test_an_agent_cannot_say_anything_that_a_service_acts_on(scene: Scene) -> None:
    """Every event there is, as it really was, every command, and every record, with an agent's credentials."""
    calls, states = list(scene.world.downstream.calls), await scene.states()
    refusals: list[str] = []
    line = await mallory(scene, refusals)
    originals = await scene.bench.every_event()
    said = {m.subject: Forgery("stolen", m.subject, m.headers, m.body) for m in originals}
    for kind in EVENTS.values():
        subject = kind.spec.subject.format(token="worker-1")
        said.setdefault(subject, Forgery("made up", subject, originals[0].headers, originals[0].body))
    for command in COMMANDS.values():
        said[command.rpc.subject] = Forgery("command", command.rpc.subject, {}, b"{}")
    before = await kept(scene)
    for forgery in said.values():
        await line.publish(forgery.subject, forgery.body, headers=forgery.headers or None)
    await line.flush()
    told = "\n".join(refusals)
    assert not {s for s in said if f'permissions violation for publish to "{s.lower()}"' not in told}
    assert before == await kept(scene)
    assert (scene.world.downstream.calls, await scene.states()) == (calls, states)
    await line.close()


async def test_no_header_makes_an_agent_s_message_reach_further(scene: Scene) -> None:
    calls, states = list(scene.world.downstream.calls), await scene.states()
    line = await mallory(scene, [])
    for how, headers in REACHING.items():
        with pytest.raises(nats.js.errors.APIError):
            await line.jetstream(timeout=5).publish("agents.worker-1.actions", a_submission(), headers=headers)
            pytest.fail(how)
    await scene.bench.settled()
    assert (scene.world.downstream.calls, await scene.states()) == (calls, states)
    await line.close()


async def test_the_envelope_of_a_service_around_an_agent_s_message_gives_it_no_power(scene: Scene) -> None:
    """A stolen grant or approval on the agent's own subjects is a submission that cannot be read."""
    calls, states = list(scene.world.downstream.calls), await scene.states()
    line = await mallory(scene, [])
    heard = await line.subscribe("agents.worker-1.results.>")
    for message in await scene.bench.every_event():
        headers = {k: v for k, v in message.headers.items() if k.startswith("ce-")}
        await line.jetstream(timeout=5).publish("agents.worker-1.actions", message.body, headers=headers)
        if message.kind != "actions.requested":
            reply = await line.request("agents.worker-1.call", message.body, headers=headers, timeout=10)
            assert json.loads(reply.data)["problem"]["status"] in (400, 413, 422), message.kind
    # what follows is heard after all of that, and it alone does anything
    await line.jetstream(timeout=5).publish("agents.worker-1.actions", a_submission(agent_id="worker-1"))
    async with asyncio.timeout(10):
        while json.loads((await heard.next_msg(timeout=10)).data).get("state") != "succeeded":
            pass
    assert len(scene.world.downstream.calls) == len(calls) + 1
    assert await scene.states() == states
    await line.close()


async def test_a_chosen_reply_subject_harms_nobody(scene: Scene) -> None:
    """A PubAck may turn up where another agent listens or is listened to: it is not believed, nor held against it."""
    calls, states = list(scene.world.downstream.calls), await scene.states()
    line = await mallory(scene, [])
    victim = await scene.world.stack.client("worker-2", scene.world.creds["worker-2"])
    heard = await victim.subscribe("agents.worker-2.results.>")
    waits_for = new_id()
    async with scene.world.agent("worker-2") as agent:
        waiting = asyncio.create_task(agent.submit("write_thing", {"thing_id": 5}, env="prod", request_id=waits_for))
        for reply in (
            "agents.worker-2.actions",
            "agents.worker-2.cancel",
            "agents.worker-2.heartbeat",
            f"agents.worker-2.results.{waits_for}",
            f"agents.worker-2.results.{scene.actions['held']}",
            "actions.granted.worker-1",
            "rpc.executor.set-stop",
            "_INBOX.gateway.x.1",
            "_INBOX.worker-2.x.1",
            "$KV.agents.worker-2",
        ):
            for verb in ("actions", "call", "get", "cancel"):
                body = a_submission() if verb in ("actions", "call") else json.dumps({"request_id": new_id()}).encode()
                if verb != "actions":
                    await line.publish(f"agents.worker-1.{verb}", body, reply=reply)
                else:  # not an action at all, so that what is counted below is what the reply subjects did
                    await line.publish("agents.worker-1.actions", b"[]", reply=reply)
        await line.flush()
        assert (await waiting).state == "accepted"
        outcome = await agent.wait(waits_for, 10)
        assert outcome.state in ("held", "denied", "accepted", "expired")
    await scene.bench.settled()
    assert scene.world.downstream.calls == calls
    assert await scene.states() == states
    told = {m.subject.rsplit(".", 1)[-1] for m in await pending(heard)}
    assert told <= {waits_for, scene.actions["held"]}
    mine = await scene.world.ok("GET", "/api/v1/actions?agent_id=worker-2")
    assert [item["request_id"] for item in mine["items"]] == [waits_for]
    await line.close()


async def pending(subscription: Any) -> list[Any]:
    """What has arrived on a subscription."""
    found = []
    while subscription.pending_msgs:
        found.append(await subscription.next_msg(timeout=1))
    return found
