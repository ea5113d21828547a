"""Agents that register over HTTP with nothing but a discovery token, as the founding specification has them do."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import aiohttp

from countersign_chassis.natsauth import KeyPair
from countersign_contracts.enrolment import registration_text, renewal_text, token_sha256

AGENTS = "/api/v1/agents"
TOKEN = {"agent_type": "security", "owner": {"team": "ops"}, "profile": "worker", "environments": ["dev"]}
#: Section 4 of the specification; the token is this deployment's.
SAID = {"agent_name": "SecurityAgent", "agent_version": "1.0.0", "agent_type": "security"}


def signed(pair: KeyPair, text: bytes) -> str:
    return urlsafe_b64encode(pair.sign(text)).rstrip(b"=").decode()


async def post(world: Any, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """As somebody without a credential."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            world.url + path, data=json.dumps(body), headers={"Content-Type": "application/json", **(headers or {})}
        ) as answer,
    ):
        return answer.status, json.loads(await answer.read())


async def test_the_specification_s_request_registers_an_agent_that_can_act_at_once(world: Any) -> None:
    issued = await world.ok("POST", f"{AGENTS}/tokens", TOKEN)
    status, me = await post(world, AGENTS, SAID | {"discovery_token": issued["secret"]})
    assert status == 201 and me["agent_id"].startswith("security-") and me["nats_creds"] and me["configuration"] is None
    action = {"tool": "read_thing", "args": {"thing_id": 1}, "env": "dev"}
    headers = {"Authorization": f"Bearer {me['http_token']}", "Prefer": "wait=10", "Idempotency-Key": "k"}
    status, outcome = await post(world, "/api/v1/actions", action, headers)
    assert (status, outcome["state"], outcome["agent_id"]) == (200, "succeeded", me["agent_id"])
    status, problem = await post(world, AGENTS, SAID | {"discovery_token": issued["secret"]})
    assert (status, problem["type"]) == (409, "urn:countersign:problem:conflict")
    page = await world.ok("GET", f"{AGENTS}?agent_type=security")
    assert [each["agent"]["agent_id"] for each in page["items"]] == [me["agent_id"]]


async def test_a_body_without_a_token_takes_a_person(world: Any) -> None:
    person = {"agent_id": "a", "name": "A", "owner": {"team": "t"}, "profile": "worker", "environments": ["dev"]}
    bodies: list[Any] = [person, {}, [], "x", SAID]
    for body in bodies:
        assert (await post(world, AGENTS, body))[0] == 401
    worker = {"Authorization": f"Bearer {world.tokens['worker-1']}"}
    assert (await post(world, AGENTS, person, worker))[0] == 403
    admin = {"Authorization": f"Bearer {world.tokens['admin']}"}
    status, problem = await post(world, AGENTS, person | {"environments": "x"}, admin)
    assert status == 422 and problem["errors"][0]["field"] == "body.environments"
    status, problem = await post(world, AGENTS, {"discovery_token": "x"})
    assert status == 422 and {error["field"] for error in problem["errors"]} == {f"body.{name}" for name in SAID}
    assert (await post(world, AGENTS, SAID | {"discovery_token": "x"}))[0] == 401
    for path in ("/tokens", "/orders"):
        assert (await post(world, AGENTS + path, TOKEN, worker))[0] == 403
        assert (await post(world, AGENTS + path, TOKEN))[0] == 401


async def test_a_key_renews_over_http_and_the_token_before_last_is_void(world: Any) -> None:
    issued = await world.ok("POST", f"{AGENTS}/tokens", TOKEN | {"uses": 2})
    pair = KeyPair.generate("user")
    text = registration_text(
        "security", SAID["agent_name"], SAID["agent_version"], pair.public, token_sha256(issued["secret"])
    )
    body = SAID | {"discovery_token": issued["secret"], "nkey": pair.public, "signature": signed(pair, text)}
    _, me = await post(world, AGENTS, body)
    tokens = [me["http_token"]]
    for _ in range(2):
        _, challenge = await post(world, f"{AGENTS}/{me['agent_id']}/challenge", {})
        nonce = challenge["nonce"]
        proof = {"nkey": pair.public, "nonce": nonce, "signature": signed(pair, renewal_text(me["agent_id"], nonce))}
        status, renewed = await post(world, f"{AGENTS}/{me['agent_id']}/renew", proof | {"kinds": ["nats", "http"]})
        assert status == 200 and renewed["nats_jwt"]
        tokens.append(renewed["http_token"])
    good = []
    for token in tokens:
        async with world.http.post(
            f"{world.url}/api/v1/heartbeat", json={}, headers={"Authorization": f"Bearer {token}"}
        ) as answer:
            good.append(answer.status)
    assert good == [401, 204, 204]


async def test_an_order_for_a_type_denies_their_actions_at_once(world: Any, tmp_path: Path) -> None:
    issued = await world.ok("POST", f"{AGENTS}/tokens", TOKEN)
    _, me = await post(world, AGENTS, SAID | {"discovery_token": issued["secret"]})
    done = await world.ok("POST", f"{AGENTS}/orders", {"order": "pause", "agent_type": "security", "reason": "look"})
    assert [each["agent_id"] for each in done["changed"]] == [me["agent_id"]]
    headers = {"Authorization": f"Bearer {me['http_token']}", "Prefer": "wait=10", "Idempotency-Key": "k"}
    action = {"tool": "read_thing", "args": {"thing_id": 1}, "env": "dev"}
    _, outcome = await post(world, "/api/v1/actions", action, headers)
    assert outcome["state"] == "denied" and "paused" in outcome["reasons"][0]["message"]
    listed = await world.ok("GET", f"{AGENTS}/tokens")
    assert listed["items"][0]["used"] == 1 and "secret" not in listed["items"][0]
    revoked = await world.ok("DELETE", f"{AGENTS}/tokens/{issued['token']['token_id']}")
    assert revoked["revoked_by"] == "admin"
    assert (await world.ok("GET", f"{AGENTS}/packages"))["items"] == []
