"""The gateway on real servers: identity, idempotency, limits, re-driving, precise errors."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import orjson
import pytest_asyncio

from countersign_contracts import subjects
from countersign_contracts.actions import ActionRequested, ActionResult
from countersign_contracts.envelope import Envelope
from countersign_contracts.ids import new_id
from countersign_gateway.submission import Submission, request_text, unkeyed_sha256
from countersign_harness.world import AGENTS, PROFILES, TOOLS, World

ACTIONS = "/api/v1/actions"
BODY = {"tool": "read_thing", "args": {"thing_id": 1}, "env": "dev"}


@pytest_asyncio.fixture
async def alone(stack: Any) -> AsyncIterator[Any]:
    """A world in which only the gateway and the registry run, so that actions stay where they are."""
    async with World(stack) as world:
        await world.downstream.start()
        for name in ("executor", "policy"):
            world.services[name] = await stack.service(name)
        approvals = await stack.service("approvals")  # what is declared has its yes too
        await world.start_door(redrive_after_s=0.5, max_waiting=3)
        await world.apply({"t.yaml": TOOLS, "p.yaml": PROFILES, "a.yaml": AGENTS})
        for agent in ("worker-1", "worker-2"):
            await world.issue(agent)
        await world.services["policy"].stop()
        await approvals.stop()
        yield world


async def test_the_door_over_http(alone: Any) -> None:
    """One world, many refusals: each with its stable type and what to do."""
    world = alone
    world.tokens["wrong"] = "csa_nonsense"

    async def refused(status: int, code: str, says: str = "", **request: Any) -> None:
        method, path = request.pop("method", "POST"), request.pop("path", ACTIONS)
        body, as_, headers = request.pop("body", BODY), request.pop("as_", "worker-1"), request.pop("headers", None)
        got, problem, sent = await world.request(method, path, body, as_=as_, headers=headers)
        assert (got, problem["type"]) == (status, f"urn:countersign:problem:{code}"), problem
        assert says in problem["detail"] and sent["Content-Type"].startswith("application/problem+json")

    await refused(401, "unauthenticated", "Bearer", as_="")
    await refused(401, "unauthenticated", "not known", as_="wrong")
    await refused(403, "forbidden", "person", as_="admin")
    await refused(403, "identity_mismatch", "worker-2", body=BODY | {"agent_id": "worker-2"})
    await refused(403, "identity_mismatch", "X-Agent-ID", headers={"X-Agent-ID": "worker-2"})
    await refused(422, "invalid", "env", body={"tool": "read_thing", "args": {}})
    await refused(422, "invalid", "idempotency", headers={"Idempotency-Key": "k" * 300})
    for wait in ("soon", "nan", "-1"):
        await refused(400, "malformed", "seconds", headers={"Prefer": f"wait={wait}"})
    # each of these was a 500 once
    for query in ("approvals?agent_id=%C2%AB", "audit/timeline?after=9223372036854775808", "agents?team=%00"):
        await refused(422, "invalid", method="GET", path=f"/api/v1/{query}", body=None, as_="admin")
    await refused(422, "invalid", "reason", body=BODY | {"reason": "\x00"})
    await refused(422, "invalid", "reason", path="/api/v1/stops", body={"scope": "all", "reason": "\x00"}, as_="admin")
    await refused(422, "invalid", "at most 16", body=BODY | {"on_behalf_of": ["person:a"] * 17})
    await refused(404, "not_found", "no action", method="GET", path=f"{ACTIONS}/{new_id()}", body=None)
    await refused(404, "not_found", "request id", method="GET", path=f"{ACTIONS}/nonsense", body=None)
    await refused(404, "not_found", "openapi", method="GET", path="/nowhere", body=None)
    await refused(404, "not_found", "openapi", method="GET", path="/docs", body=None)  # it would load from elsewhere
    await refused(405, "method_not_allowed", "PUT", method="PUT")
    await refused(403, "forbidden", "own actions", method="GET", path=f"{ACTIONS}?agent_id=worker-2", body=None)
    await refused(403, "forbidden", "person's token", path="/api/v1/stops", body={"scope": "all", "reason": "x"})
    await refused(422, "invalid", "scope", path="/api/v1/stops", body={"scope": "alll", "reason": "x"}, as_="admin")
    await refused(
        404,
        "not_found",
        "",
        path="/action",
        body={"agent_id": "nobody", "tool_name": "t", "tool_args": {}, "env": "dev"},
    )
    await refused(400, "malformed", "no canonical", body=BODY | {"args": {"n": 2**60}})
    await refused(503, "unavailable", "approvals", method="GET", path="/api/v1/approvals", body=None, as_="admin")

    async def raw(data: bytes, status: int, code: str, **headers: str) -> None:
        given = {"Authorization": f"Bearer {world.tokens['worker-1']}", "Content-Type": "application/json"} | headers
        async with world.http.post(world.url + ACTIONS, data=data, headers=given) as response:
            problem = await response.json(content_type=None)
            assert (response.status, problem["type"]) == (status, f"urn:countersign:problem:{code}")

    await raw(b"{not json", 400, "malformed")
    await raw(b" " * 300_000, 413, "too_large")
    await raw(b"[" * 2000 + b"]" * 2000, 400, "malformed")
    await raw(b"a=b", 415, "unsupported_media_type", **{"Content-Type": "application/x-www-form-urlencoded"})

    # whoever it is: these read a body before they know that
    for path in ("tokens", "agents", "agents/worker-1/renew", "stops", "apply"):
        assert await endless(world, f"/api/v1/{path}") == (413, "urn:countersign:problem:too_large")


async def endless(world: Any, path: str) -> tuple[int, str]:
    """Post a body that ends when it is refused; the status, and the problem's type."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.services["gateway"].http.port)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head.encode())

    async def send() -> None:
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                writer.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")
                await writer.drain()

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(30):
            answered = await reader.readuntil(b"\r\n\r\n")
            problem = orjson.loads(await reader.readuntil(b"}"))
    finally:
        sending.cancel()
        writer.close()
    return int(answered.split()[1]), problem["type"]


async def test_the_same_key_gives_the_same_action_and_another_body_a_conflict(alone: Any) -> None:
    async def post(body: Any, as_: str = "worker-1") -> tuple[int, Any]:
        status, answer, _ = await alone.request("POST", ACTIONS, body, as_=as_, headers={"Idempotency-Key": "once"})
        return status, answer

    first, again = await asyncio.gather(post(BODY), post(BODY))
    assert first[0] == again[0] == 202 and first[1]["request_id"] == again[1]["request_id"]
    status, problem = await post(BODY | {"args": {"thing_id": 2}})
    assert (status, problem["type"]) == (409, "urn:countersign:problem:idempotency_conflict")
    status, other = await post(BODY, "worker-2")
    assert status == 202 and other["request_id"] != first[1]["request_id"]


async def test_beyond_the_limit_of_waiting_callers_they_are_told_when_to_come_back(alone: Any) -> None:
    async def wait() -> tuple[int, Any, dict[str, str]]:
        status, answer, sent = await alone.request("POST", ACTIONS, BODY, as_="worker-1", headers={"Prefer": "wait=2"})
        return status, answer, sent

    answers = await asyncio.gather(*(wait() for _ in range(6)))
    statuses = sorted(status for status, _, _ in answers)
    assert statuses == [202, 202, 202, 503, 503, 503]
    problem, refused = next((problem, headers) for status, problem, headers in answers if status == 503)
    assert refused["Retry-After"] == "1" and problem["type"] == "urn:countersign:problem:at_capacity"
    assert (await alone.request("POST", ACTIONS, BODY, as_="worker-1"))[0] == 202  # who does not wait is not refused


async def test_an_action_that_stands_still_is_sent_again_exactly_as_it_was(alone: Any) -> None:
    status, accepted, headers = await alone.request("POST", ACTIONS, BODY, as_="worker-1")
    assert status == 202 and headers["Location"].endswith(accepted["request_id"])
    client = await alone.stack.client("bootstrap-core")
    sent: list[bytes] = []
    async with asyncio.timeout(10):
        seq = 0
        while len(sent) < 2:
            seq += 1
            reply = await client.request("$JS.API.STREAM.MSG.GET.ACTIONS", orjson.dumps({"seq": seq}), timeout=2)
            message = orjson.loads(reply.data).get("message")
            if message is None:
                seq -= 1
                await asyncio.sleep(0.05)
            elif message["subject"] == "actions.requested.worker-1":
                sent.append(message["data"])
    assert sent[0] == sent[1]


async def test_an_agent_is_answered_on_its_own_inbox_only_and_every_answer_is_signed(alone: Any) -> None:
    client = await alone.stack.client("worker-1", alone.creds["worker-1"])
    heard: asyncio.Queue[Any] = asyncio.Queue()

    async def hear(msg: Any) -> None:
        await heard.put(msg)

    await client.subscribe("agents.worker-1.results.>", cb=hear)
    await client.flush()
    request = {"request_id": new_id(), "tool": "read_thing", "args": {"thing_id": 1}, "env": "dev", "wait_s": 0}
    # a foreign reply subject: nothing is accepted, nothing is answered
    await client.publish(subjects.agent("worker-1", "call"), orjson.dumps(request), reply="agents.worker-2.results.x")
    answered = await client.request(subjects.agent("worker-1", "call"), orjson.dumps(request), timeout=5)
    envelope = Envelope.read(answered.headers, answered.data)
    envelope.verify(alone.stack.trust())
    assert ActionResult.from_bytes(answered.data).state == "accepted" and envelope.subject == "worker-1"
    for body, code in (
        (b"nonsense", "malformed"),
        (orjson.dumps(request | {"agent_id": "worker-2"}), "identity_mismatch"),
        (orjson.dumps(request | {"args": {"thing_id": 2}}), "idempotency_conflict"),
        (orjson.dumps({k: v for k, v in request.items() if k != "request_id"}), "invalid"),
    ):
        answered = await client.request(subjects.agent("worker-1", "call"), body, timeout=5)
        assert orjson.loads(answered.data)["problem"]["type"] == f"urn:countersign:problem:{code}"
    # queued: a bad message is answered on its results subject, one without an id is dropped
    await client.publish(subjects.agent("worker-1", "actions"), b'{"stream":"INGRESS","seq":1}')
    bad = {"request_id": new_id(), "tool": "read_thing", "args": 1, "env": "dev"}
    await client.publish(subjects.agent("worker-1", "actions"), orjson.dumps(bad))
    async with asyncio.timeout(5):
        msg = await heard.get()
    Envelope.read(msg.headers, msg.data).verify(alone.stack.trust())
    assert msg.subject.endswith(bad["request_id"]) and b"urn:countersign:problem:invalid" in msg.data


async def test_an_agent_sees_its_own_actions_only(alone: Any) -> None:
    mine = await alone.ok("POST", ACTIONS, BODY, as_="worker-1")
    status, _, _ = await alone.request("GET", f"{ACTIONS}/{mine['request_id']}", as_="worker-2")
    assert status == 404
    theirs = await alone.ok("GET", ACTIONS, as_="worker-2")
    assert theirs["items"] == []
    page = await alone.ok("GET", f"{ACTIONS}?limit=1&tool=read_thing&state=accepted", as_="worker-1")
    assert [item["request_id"] for item in page["items"]] == [mine["request_id"]]


async def test_no_agent_chooses_where_its_actions_stand_in_the_list(alone: Any) -> None:
    """Ids that agents choose say nothing of time: the highest would stay above all, the lowest be overlooked."""
    asked: list[str] = []
    async with alone.agent("worker-2") as agent:
        for place, chosen in enumerate(("f", "0")):
            asked.append((await alone.ok("POST", ACTIONS, BODY, as_="worker-1"))["request_id"])
            asked.append(f"{chosen * 8}-0000-7000-8000-00000000000{place}")
            await agent.submit("read_thing", {"thing_id": 1}, env="dev", request_id=asked[-1])
    asked.append((await alone.ok("POST", ACTIONS, BODY, as_="worker-1"))["request_id"])
    page = await alone.ok("GET", f"{ACTIONS}?limit=2")
    listed = [item["request_id"] for item in page["items"]]
    while page.get("next"):
        page = await alone.ok("GET", f"{ACTIONS}?limit=2&before={page['next']}")
        listed += [item["request_id"] for item in page["items"]]
    assert listed == asked[::-1]


async def test_what_is_looked_up_reads_as_what_was_answered_and_says_what_was_asked_for(alone: Any) -> None:
    answered = await alone.ok("POST", ACTIONS, BODY, as_="worker-1")
    found = await alone.ok("GET", f"{ACTIONS}/{answered['request_id']}", as_="worker-1")
    assert found.pop("action")["args"] == BODY["args"]
    assert found | {"at": answered["at"]} == answered


async def test_the_event_carries_what_was_asked_and_the_gateways_signature(alone: Any) -> None:
    mine = await alone.ok("POST", ACTIONS, BODY | {"on_behalf_of": ["person:a", "agent:b"]}, as_="worker-1")
    found = await alone.ok("GET", f"{ACTIONS}/{mine['request_id']}", as_="worker-1")
    assert found["action"]["principal_chain"] == ["person:a", "agent:b"]
    assert found["action"]["digest"] == mine["digest"]
    client = await alone.stack.client("bootstrap-core")
    query = orjson.dumps({"last_by_subj": "actions.requested.worker-1"})
    reply = orjson.loads((await client.request("$JS.API.STREAM.MSG.GET.ACTIONS", query, timeout=2)).data)
    assert ActionRequested.spec.type.encode() in base64.b64decode(reply["message"]["hdrs"])


async def test_a_request_that_version_0_1_0_remembers_is_known_again(alone: Any) -> None:
    """It kept a plain hash, by which values can be guessed; rows written now do not."""
    plain = unkeyed_sha256(request_text(Submission.model_validate(BODY)))
    headers = {"Idempotency-Key": "older"}
    _, first, _ = await alone.request("POST", ACTIONS, BODY, as_="worker-1", headers=headers)
    connection = await asyncpg.connect(alone.stack.superuser_dsn())
    try:
        assert await connection.fetchval("SELECT request_sha256 FROM gateway.action") != plain
        await connection.execute("UPDATE gateway.action SET request_sha256 = $1", plain)
    finally:
        await connection.close()
    _, again, _ = await alone.request("POST", ACTIONS, BODY, as_="worker-1", headers=headers)
    assert again["request_id"] == first["request_id"]
    other = BODY | {"args": {"thing_id": 2}}
    status, _, _ = await alone.request("POST", ACTIONS, other, as_="worker-1", headers=headers)
    assert status == 409


async def test_callers_are_told_to_come_back_while_the_database_is_away(alone: Any) -> None:
    """Found by faults: they were told `internal`, which may be for good."""
    client = await alone.stack.client("worker-1", alone.creds["worker-1"])
    await alone.services["gateway"].db.close()
    call = orjson.dumps({"request_id": new_id(), "wait_s": 0, **BODY})
    answered = await client.request(subjects.agent("worker-1", "call"), call, timeout=5)
    assert orjson.loads(answered.data)["problem"]["type"] == "urn:countersign:problem:unavailable"
    status, problem, headers = await alone.request("POST", ACTIONS, BODY, as_="worker-1")
    assert (status, problem["type"]) == (503, "urn:countersign:problem:unavailable"), problem
    assert headers["Retry-After"] == "1" and "database" in problem["detail"]


async def test_who_waits_while_the_gateway_stops_is_told_what_is_known(alone: Any) -> None:
    """Found by faults: their requests were cut after three seconds, and answered with a bare 500."""
    headers = {"Prefer": "wait=30"}
    waiting = asyncio.create_task(alone.request("POST", ACTIONS, BODY, as_="worker-1", headers=headers))
    async with asyncio.timeout(20):
        while not (await alone.ok("GET", "/api/v1/actions"))["items"]:
            await asyncio.sleep(0.02)
    await alone.services["gateway"].stop()
    status, answer, _ = await waiting
    assert (status, answer["state"]) == (202, "accepted")
