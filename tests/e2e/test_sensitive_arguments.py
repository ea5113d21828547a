"""A sensitive argument reaches the business system and rests nowhere: every door, every end, and then everything is
searched.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import secrets
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from countersign_chassis import Failpoints
from countersign_chassis.sealing import key_text, new_key
from countersign_contracts import subjects
from countersign_contracts.errors import Malformed
from countersign_contracts.ids import new_id
from countersign_gateway.submission import Submission, request_text, unkeyed_sha256
from countersign_harness.searching import Searched, files, streams, tables
from countersign_harness.world import World
from countersign_sdk import CountersignError

GOVERNANCE = """
kind: tool
name: open_account
effect: write
idempotent: false
resource: accounts/{account}
arguments:
  type: object
  additionalProperties: false
  required: [account, password]
  properties:
    account: {type: integer, minimum: 1}
    password: {type: string, minLength: 10, maxLength: 60, x-sensitive: true}
    owner:
      type: object
      additionalProperties: false
      properties:
        name: {type: string}
        tax: {type: object, x-sensitive: true}
http: {method: PUT, url: "URL/accounts/{account}", path: [account], body: [password, owner], allow_private: true}
---
kind: profile
name: teller
environments: [dev, prod]
tools: [open_account]
---
kind: agent
agent_id: teller-1
name: Teller
owner: {team: ops}
profile: teller
environments: [dev, prod]
"""


class Bank:
    """A world with the tool above, and everything that it said to anybody."""

    def __init__(self, world: World, faults: dict[str, list[Exception]], logs: io.StringIO) -> None:
        self.world = world
        self.faults = faults
        # with characters that every encoding has to escape
        self.common = f'pä"ss/wörd+\\{secrets.token_hex(8)}'
        self.logs = logs
        self.values: list[str] = []
        self.answers: list[tuple[str, bytes | str]] = []

    def secret(self) -> str:
        """A value to look for; all begin with what they have in common."""
        self.values.append(f"{self.common}.{len(self.values)}")
        return self.values[-1]

    def args(self) -> dict[str, Any]:
        """Arguments with two secrets, one within a value within an object."""
        return {"account": 7, "password": self.secret(), "owner": {"name": "Ada", "tax": {"ids": [self.secret()]}}}

    async def ask(self, method: str, path: str, body: Any = None, *, as_: str = "admin", **headers: str) -> Any:
        """Request, and keep what was answered."""
        status, answer, sent = await self.world.request(method, path, body, as_=as_, headers=headers)
        self.answers += [(f"{method} {path}", json.dumps(answer)), (f"{method} {path}", json.dumps(sent))]
        return status, answer

    async def submit(self, args: Any, **more: Any) -> Any:
        """Over HTTP, waiting for the end."""
        body = {"tool": "open_account", "args": args, "env": "dev", **more}
        return (await self.ask("POST", "/api/v1/actions", body, as_="teller-1", Prefer="wait=20"))[1]

    async def over_nats(self, verb: str, body: bytes) -> Any:
        """What is answered to a message on ``agents.teller-1.<verb>``, as it is on the wire."""
        client = await self.world.stack.client("teller-1", self.world.creds["teller-1"])
        heard = await client.subscribe("agents.teller-1.results.>")
        await client.flush()
        if verb == "actions":
            await client.publish(subjects.agent("teller-1", verb), body)
            message = await heard.next_msg(20)
        else:
            message = await client.request(subjects.agent("teller-1", verb), body, timeout=25)
        self.answers += [(verb, message.data), (verb, json.dumps(message.headers))]
        return orjson.loads(message.data)


@pytest_asyncio.fixture
async def bank(stack: Any, caplog: Any) -> AsyncIterator[Bank]:
    """Whatever the services say in their logs is kept, at every level."""
    caplog.set_level(logging.DEBUG)
    faults: dict[str, list[Exception]] = {"policy.before_commit": [], "executor.after_claim_before_call": []}

    def failing(point: str) -> Failpoints:
        async def fail() -> None:
            if faults[point]:
                raise faults[point].pop()

        return Failpoints({point: fail})

    async with World(stack) as world:
        talkative = {name: {"log_level": "debug"} for name in ("gateway", "policy", "approvals", "executor", "audit")}
        with contextlib.redirect_stderr(io.StringIO()) as logs:  # taken by the services' loggers as they are built
            await world.start({point.split(".")[0]: failing(point) for point in faults}, talkative)
        assert (await world.apply({"bank.yaml": GOVERNANCE}))["errors"] == []
        await world.issue("teller-1")
        yield Bank(world, faults, logs)


async def test_it_reaches_the_business_system_and_can_be_found_nowhere_else(bank: Bank, caplog: Any) -> None:
    world = bank.world
    called = world.downstream.calls

    # every door; what it sends is echoed, as a value, in a text, and cut off within it
    for door in ("http", "call", "first API"):
        args = bank.args()
        world.downstream.answer = {"told": args, f"key {args['password']}": [json.dumps(args)]}
        if door == "http":
            outcome = await bank.submit(args)
        elif door == "call":
            body = {"request_id": new_id(), "tool": "open_account", "args": args, "env": "dev", "wait_s": 20}
            outcome = await bank.over_nats("call", orjson.dumps(body))
        else:
            body = {"tool_name": "open_account", "tool_args": args, "env": "dev"}
            status, outcome = await bank.ask("POST", "/action", body, as_="teller-1")
            outcome["state"] = {200: "succeeded"}.get(status)
        assert outcome["state"] == "succeeded", outcome
        assert outcome["result"]["told"]["password"] == "[sensitive]", outcome
        assert json.loads(called[-1]["body"]) == {"password": args["password"], "owner": args["owner"]}

    # the same value again is the same mark, and the same request is known again
    world.downstream.answer = {"ok": True}
    again, key = bank.args(), new_id()
    repeated: dict[str, Any] = {"tool": "open_account", "args": again, "env": "dev"}
    keyed = {"as_": "teller-1", "Idempotency-Key": key, "Prefer": "wait=20"}
    (_, one), (_, two) = [await bank.ask("POST", "/api/v1/actions", repeated, **keyed) for _ in range(2)]
    three = await bank.submit(again)
    assert one["request_id"] == two["request_id"] != three["request_id"]
    marks = [
        (await world.ok("GET", f"/api/v1/actions/{each['request_id']}"))["action"]["args"]["password"]["mark"]
        for each in (one, three)
    ]
    assert marks[0] == marks[1]
    status, _ = await bank.ask("POST", "/api/v1/actions", repeated | {"args": bank.args()}, **keyed)
    assert status == 409
    assert len(called) == 5

    # failure: the business system says what it did not like
    args = bank.args()
    world.downstream.status, world.downstream.answer = 500, {"error": f"bad password {args['password']}!", "got": args}
    failed = await bank.submit(args)
    assert failed["state"] == "failed" and failed["result"]["error"] == "bad password [sensitive]!", failed
    world.downstream.status, world.downstream.answer = 200, {"ok": True}

    # denial, and arguments that do not fit: seen by policy, seen by the executor alone, and by nobody
    assert (await bank.submit(bank.args(), env="staging"))["state"] == "denied"
    assert (await bank.submit(bank.args() | {"account": "seven"}))["reasons"][0]["code"] == "invalid_arguments"
    misfit = await bank.submit(bank.args() | {"password": bank.secret() * 3})
    assert (misfit["state"], misfit["reasons"][0]["code"]) == ("denied", "invalid_arguments"), misfit
    assert "`/password` does not fit the tool's schema (maxLength)" in misfit["reasons"][0]["message"]
    assert (await bank.submit(bank.args() | {"passwort": bank.secret()}))["state"] == "denied"
    assert (await bank.submit(bank.args(), tool="no_such_tool"))["state"] == "denied"
    assert (await bank.submit(bank.secret()))["type"] == "urn:countersign:problem:invalid"
    claimed = {"account": 1, "password": {"$sealed": bank.secret(), "mark": bank.secret()}}
    assert "Countersign's own" in (await bank.submit(claimed))["detail"]
    broken = orjson.dumps({"request_id": new_id(), "args": bank.args()})[:-1]
    assert (await bank.over_nats("call", broken))["problem"]["type"] == "urn:countersign:problem:malformed"
    assert len(called) == 6

    # an error that nobody foresaw, with its traceback in the log
    bank.faults["executor.after_claim_before_call"].append(RuntimeError("not foreseen"))
    assert (await bank.submit(bank.args()))["state"] == "succeeded"

    # hold: people see that it is there, not what it is
    args = bank.args()
    world.downstream.answer = {"told": args}
    body = {"tool": "open_account", "args": args, "env": "prod"}
    _, held = await bank.ask("POST", "/api/v1/actions", body, as_="teller-1")
    approval = await world.approval_of(held["request_id"])
    _, approval = await bank.ask("GET", f"/api/v1/approvals/{approval['approval_id']}")
    assert approval["shown_args"]["password"].startswith("[sensitive] ") and approval["shown_args"]["account"] == 7
    assert (await world.vote(approval, "approve"))[0] == 200
    assert await world.until(held["request_id"], "succeeded") == "succeeded"
    assert json.loads(called[-1]["body"])["password"] == args["password"]

    world.downstream.answer = {"ok": True}

    # a dead letter, which keeps the whole event
    bank.faults["policy.before_commit"].append(Malformed("cannot be handled"))
    body = {"tool": "open_account", "args": bank.args(), "env": "dev"}
    _, poisoned = await bank.ask("POST", "/api/v1/actions", body, as_="teller-1")
    async with asyncio.timeout(20):
        while not any("policy-actions" in where for where, _ in await streams(world.stack)):
            await asyncio.sleep(0.02)

    # what anybody may ask for afterwards
    for path in (
        "/api/v1/actions",
        f"/api/v1/actions/{held['request_id']}",
        f"/api/v1/actions/{failed['request_id']}",
        f"/api/v1/actions/{poisoned['request_id']}",
        "/api/v1/approvals",
        "/api/v1/audit/timeline?limit=200",
        "/audit/timeline?limit=200",
    ):
        assert (await bank.ask("GET", path))[0] == 200
    _, export = await bank.ask("GET", "/api/v1/audit/export")
    assert any("actions.executed" in line for line in export["lines"])

    searched = Searched(*bank.values)
    seen = [(call["path"], call["body"]) for call in called]
    assert len(searched.found_among(seen)) >= 2 * len(called), "what was sent is what is looked for"
    assert not searched.found_among(bank.answers)
    rows = await tables(world.stack)
    assert not searched.found_among(rows)
    guess = unkeyed_sha256(request_text(Submission.model_validate(repeated)))
    assert guess not in {content for _, content in rows}, "whoever knows the rest could try every value"
    assert not searched.found_among(await streams(world.stack))
    assert not Searched(bank.common).found_among(files(world.stack.layout.root, world.stack.postgres.folder))
    assert "RuntimeError: not foreseen" in bank.logs.getvalue()
    assert not searched.found_among([("logs", bank.logs.getvalue()), ("library logs", caplog.text)])


async def test_what_is_queued_is_refused_and_the_sdk_has_another_way(bank: Bank) -> None:
    """The queue is a stream: what is in it rests as it was sent. So nothing sensitive is taken from there."""
    args = bank.args()
    request_id = new_id()
    body = {"request_id": request_id, "tool": "open_account", "args": args, "env": "dev"}
    refused = (await bank.over_nats("actions", orjson.dumps(body)))["problem"]
    assert refused["type"] == "urn:countersign:problem:invalid"
    assert refused["detail"].startswith("`/password`, `/owner/tax`: sensitive") and not bank.world.downstream.calls
    async with asyncio.timeout(10):
        while any(where.startswith("INGRESS/") for where, _ in await streams(bank.world.stack)):
            await asyncio.sleep(0.02)
    async with bank.world.agent("teller-1") as agent:
        with pytest.raises(CountersignError, match="queued=False"):
            await agent.submit("open_account", bank.args(), env="dev")
        accepted = await agent.submit("open_account", args, env="dev", request_id=request_id, queued=False)
        assert accepted.request_id == request_id
        assert (await agent.wait(request_id, 15)).state == "succeeded"
    assert json.loads(bank.world.downstream.calls[0]["body"])["password"] == args["password"]
    searched = Searched(*bank.values)
    assert not searched.found_among([*bank.answers, *await tables(bank.world.stack), *await streams(bank.world.stack)])


async def test_a_new_key_seals_from_now_on_and_the_old_one_opens_what_waits(bank: Bank) -> None:
    world, layout = bank.world, bank.world.stack.layout

    async def held() -> Any:
        _, asked = await bank.ask(
            "POST",
            "/api/v1/actions",
            {"tool": "open_account", "args": bank.args(), "env": "prod"},
            as_="teller-1",
        )
        return await world.approval_of(asked["request_id"])

    async def again(keys: str) -> None:
        """The executor and the gateway stop, the keys change, bootstrap runs, both start."""
        for name in ("gateway", "executor"):
            await world.services[name].stop()
        layout.box_key.write_text(keys)
        await world.stack.prepare()
        world.services["executor"] = await world.stack.service("executor")
        await world.open_gateway()

    async def end(approval: Any) -> str:
        assert (await world.vote(approval, "approve"))[0] == 200
        return str(await world.until(approval["action"]["request_id"], "succeeded", "denied"))

    old, public = layout.box_key.read_text(), layout.box_public.read_text()
    first, second = await held(), await held()
    new = key_text(new_key())
    await again(new + old)
    assert layout.box_public.read_text() != public
    assert await end(first) == "succeeded" and (await bank.submit(bank.args()))["state"] == "succeeded"
    third = await held()
    await again(new)
    assert await end(third) == "succeeded"
    assert await end(second) == "denied"
    denied = await world.ok("GET", f"/api/v1/actions/{second['action']['request_id']}")
    assert "sealed for another key" in denied["reasons"][0]["message"]
    assert len(world.downstream.calls) == 3
