"""What an agent can and cannot do on a real server, with the credentials the registry mints.

Where the server lets through what one would not expect, a test shows it, since others have to reckon with it.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import nats.errors
import nats.js.errors
import pytest

from countersign_chassis.natsauth import Permissions
from countersign_harness.harmful import harmful

if TYPE_CHECKING:
    from .conftest import Connect, Connection, Deployment, Ingress

OWN = ("actions", "call", "get", "cancel", "heartbeat", "logs", "metrics")


@pytest.mark.parametrize("verb", OWN)
async def test_an_agent_publishes_under_its_own_id(connect: Connect, verb: str) -> None:
    gateway = await connect.user("AGENTS", "gateway")
    heard = await gateway.subscribe("agents.>")
    agent = await connect.agent("alpha")
    await agent.publish(f"agents.alpha.{verb}", b"mine")
    message = await heard.next_msg(timeout=5)
    assert (message.subject, message.data) == (f"agents.alpha.{verb}", b"mine")


@pytest.mark.parametrize(
    "subject",
    [
        *(f"agents.beta.{verb}" for verb in OWN),
        "agents.alpha.results.r1",
        "agents.alpha.control.stop",
        "agents.alpha",
        "agents.alpha.actions.more",
        "agents.alphabet.actions",
        "actions.requested.alpha",
        "_INBOX.alpha.1",
        "$JS.API.INFO",
        "$JS.API.STREAM.DELETE.INGRESS",
        "$JS.ACK.INGRESS.gateway.1.1.1.1.0",
        "$KV.agents.alpha",
        "$SYS.REQ.CLAIMS.UPDATE",
        "$SYS.REQ.USER.INFO",
    ],
)
async def test_an_agent_publishes_nowhere_else(connect: Connect, subject: str) -> None:
    gateway = await connect.user("AGENTS", "gateway")
    heard = await gateway.subscribe("agents.>")
    agent = await connect.agent("alpha")
    await agent.publish(subject, b"forged")
    assert f'permissions violation for publish to "{subject.lower()}"' in await agent.refusal()
    await agent.publish("agents.alpha.logs", b"after it")
    assert (await heard.next_msg(timeout=5)).data == b"after it"


@pytest.mark.parametrize("subject", ["agents.alpha.results.>", "agents.alpha.control.>", "_INBOX.alpha.>"])
async def test_an_agent_hears_its_own_results(connect: Connect, subject: str) -> None:
    gateway = await connect.user("AGENTS", "gateway")
    agent = await connect.agent("alpha")
    heard = await agent.subscribe(subject)
    await gateway.publish(subject.replace(">", "r1"), b"for you")
    assert (await heard.next_msg(timeout=5)).data == b"for you"


@pytest.mark.parametrize(
    "subject",
    [
        ">",
        "*.*.results.>",
        "agents.*.results.>",
        "agents.beta.results.>",
        "agents.beta.results.r1",
        "agents.beta.control.>",
        "agents.alpha.actions",
        "_INBOX.>",
        "_INBOX.beta.>",
        "actions.>",
        "$JS.>",
        "$SYS.>",
    ],
)
async def test_an_agent_hears_nothing_else(connect: Connect, subject: str) -> None:
    agent = await connect.agent("alpha")
    await agent.subscribe(subject)
    assert f'permissions violation for subscription to "{subject.lower()}"' in await agent.refusal()


async def test_what_is_said_in_core_is_not_heard_in_agents_and_the_other_way_round(connect: Connect) -> None:
    inside, outside = await connect.user("CORE", "inside"), await connect.user("AGENTS", "outside")
    heard_inside, heard_outside = await inside.subscribe("a.>"), await outside.subscribe("a.>")
    await outside.publish("a.b", b"from AGENTS")
    await inside.publish("a.b", b"from CORE")
    assert (await heard_inside.next_msg(timeout=5)).data == b"from CORE"
    assert (await heard_outside.next_msg(timeout=5)).data == b"from AGENTS"
    assert heard_inside.pending_msgs == heard_outside.pending_msgs == 0


async def test_a_publish_to_the_stream_is_acknowledged_though_its_api_is_out_of_reach(
    connect: Connect, ingress: Ingress
) -> None:
    agent = await connect.agent("alpha")
    ack = await agent.client.jetstream().publish("agents.alpha.actions", b"an action")
    assert ack.stream == ingress.stream
    with pytest.raises(nats.errors.TimeoutError):
        await agent.client.request(f"$JS.API.STREAM.INFO.{ingress.stream}", timeout=0.2)
    assert 'publish to "$js.api.stream.info.' in await agent.refusal()


HARMFUL = harmful("agents.beta.actions")


@pytest.mark.parametrize("headers", HARMFUL.values(), ids=HARMFUL)
async def test_a_header_that_would_touch_other_messages_is_refused_by_the_stream(
    connect: Connect, ingress: Ingress, headers: dict[str, str]
) -> None:
    agent = await connect.agent("alpha")
    await agent.client.jetstream().publish("agents.alpha.actions", b"kept")
    with pytest.raises(nats.js.errors.APIError):
        await agent.client.jetstream().publish("agents.alpha.actions", b"refused", headers=headers)
    assert await ingress.messages() == 1


async def test_a_trace_may_not_be_sent_to_another_agent(connect: Connect, ingress: Ingress) -> None:
    agent = await connect.agent("alpha")
    headers = {"Nats-Trace-Dest": "agents.beta.actions"}
    await agent.publish("agents.alpha.actions", b"traced", headers=headers)
    assert 'publish to "agents.beta.actions"' in await agent.refusal()
    assert await ingress.messages() == 0


async def test_a_puback_reaches_another_agents_results_when_the_sender_names_them_as_reply(
    connect: Connect, ingress: Ingress
) -> None:
    """So a result counts only if it is signed."""
    alpha, beta = await connect.agent("alpha"), await connect.agent("beta")
    results = await beta.subscribe("agents.beta.results.>")
    await alpha.publish("agents.alpha.actions", b"an action", reply="agents.beta.results.r1")
    planted = await results.next_msg(timeout=5)
    assert json.loads(planted.data) == {"stream": ingress.stream, "seq": 1}
    assert planted.headers is None


async def test_a_puback_lands_in_the_stream_as_another_agents_action_when_named_as_reply(
    connect: Connect, ingress: Ingress
) -> None:
    """So what looks like a PubAck is no action, and no fault of the agent whose subject it came on."""
    alpha = await connect.agent("alpha")
    await alpha.publish("agents.alpha.actions", b"an action", reply="agents.beta.actions")
    consumer = await ingress.admin.client.jetstream().pull_subscribe("agents.*.actions", durable="gateway")
    async with asyncio.timeout(5):
        stored = [message for _ in range(2) for message in await consumer.fetch(1, timeout=5)]
    assert [(message.subject, message.data) for message in stored] == [
        ("agents.alpha.actions", b"an action"),
        ("agents.beta.actions", f'{{"stream":"{ingress.stream}","seq":1}}'.encode()),
    ]


@pytest.mark.parametrize("call", ["PURGE", "DELETE"])
async def test_a_puback_sent_to_the_jetstream_api_does_nothing(connect: Connect, ingress: Ingress, call: str) -> None:
    alpha = await connect.agent("alpha")
    for _ in range(3):
        await alpha.client.jetstream().publish("agents.alpha.actions", b"kept")
    await alpha.publish("agents.alpha.actions", b"kept too", reply=f"$JS.API.STREAM.{call}.{ingress.stream}")
    await ingress.admin.client.request("$JS.API.STREAM.PURGE.NONE", timeout=5)  # it waits in the same queue
    assert await ingress.messages() == 4


@pytest.mark.parametrize("reply", ["$JS.ACK.INGRESS.gateway.1.1.1.1.0", "_R_.1", "_GR_.a.b.c"])
async def test_a_reply_subject_of_the_server_itself_is_refused(connect: Connect, reply: str) -> None:
    alpha = await connect.agent("alpha")
    await alpha.publish("agents.alpha.logs", b"acknowledged by me", reply=reply)
    assert f'publish with reply of "{reply.lower()}"' in await alpha.refusal()


async def answering(connect: Connect, permissions: Permissions, answer: bytes) -> Connection:
    """A service that answers agents' calls without a look at their reply subject."""
    service = await connect.user("AGENTS", "answering", permissions)

    async def respond(message: Any) -> None:
        await message.respond(answer)

    await service.client.subscribe("agents.*.call", cb=respond)
    await service.settle()
    return service


async def test_who_may_answer_any_reply_subject_deletes_a_stream_for_an_agent(
    connect: Connect, ingress: Ingress
) -> None:
    """`responses` lets an answer go where the asker says, over every deny: not for those whom agents call."""
    denied = Permissions((), ("agents.*.call",), publish_deny=("$JS.>",), responses=1)
    await answering(connect, denied, answer=b"")
    deletions = await ingress.admin.subscribe(f"$JS.EVENT.ADVISORY.STREAM.DELETED.{ingress.stream}")
    alpha = await connect.agent("alpha")
    await alpha.publish("agents.alpha.call", b"a call", reply=f"$JS.API.STREAM.DELETE.{ingress.stream}")
    await deletions.next_msg(timeout=5)
    assert not await ingress.exists()


async def test_who_may_answer_inboxes_only_is_stopped_by_the_server(connect: Connect, ingress: Ingress) -> None:
    service = await answering(connect, Permissions(("_INBOX.*.>",), ("agents.*.call",)), answer=b"")
    alpha = await connect.agent("alpha")
    for reply in (f"$JS.API.STREAM.DELETE.{ingress.stream}", "agents.beta.results.r1"):
        await alpha.publish("agents.alpha.call", b"a call", reply=reply)
        assert f'publish to "{reply.lower()}"' in await service.refusal()
    assert await ingress.exists()
    assert (await alpha.client.request("agents.alpha.call", b"a call", timeout=5)).data == b""


async def test_jetstream_is_where_the_accounts_limits_say_so(connect: Connect, deployment: Deployment) -> None:
    for account in ("AGENTS", "CORE"):
        info = await (await connect.user(account, "service")).client.jetstream().account_info()
        assert info.limits.max_storage == 64 * 1024 * 1024
        assert info.limits.max_memory == 0
    system = await connect.user("SYS", "service")
    with pytest.raises(nats.js.errors.APIError):
        await system.client.jetstream().account_info()


async def test_a_stream_beyond_the_accounts_limits_is_refused(connect: Connect) -> None:
    core = (await connect.user("CORE", "service")).client.jetstream()
    for beyond in ({"max_bytes": 64 * 1024 * 1024 + 1}, {"storage": "memory", "max_bytes": 1}):
        with pytest.raises(nats.js.errors.APIError, match=r"resources|limits|exceeded"):
            await core.add_stream(name="TOO_BIG", subjects=["big"], **beyond)
