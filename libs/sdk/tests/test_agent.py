"""The SDK against the running product, over both ways; and where nobody or somebody else answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from countersign_contracts.actions import ActionRef, ActionResult
from countersign_contracts.agent_config import ConfigValues
from countersign_contracts.ids import new_id
from countersign_contracts.model import now
from countersign_harness.world import AGENTS
from countersign_ledger import SigningKey, TrustBundle, TrustedKey
from countersign_sdk import Agent, CountersignError, Unavailable
from countersign_sdk.over_nats import agent_in


@pytest.mark.parametrize("over", ["nats", "http"])
async def test_submit_wait_get_cancel_and_heartbeat(world: Any, over: str) -> None:
    async with world.agent(over=over) as agent:
        accepted = await agent.submit("read_thing", {"thing_id": 1}, env="dev", session_id="s")
        outcome = await agent.wait(accepted.request_id, 10)
        assert outcome.state == "succeeded" and outcome.result == {"ok": True}
        unqueued = await agent.submit("read_thing", {"thing_id": 2}, env="dev", queued=False)
        assert (await agent.wait(unqueued.request_id, 10)).state == "succeeded"
        held = await agent.call("write_thing", {"thing_id": 1, "status": "x"}, env="prod", wait_s=0.5)
        assert held.state in ("accepted", "held")
        assert (await agent.cancel(held.request_id, "not needed")).state == "cancelled"
        assert (await agent.get(held.request_id)).state == "cancelled"
        denied = await agent.call("no_such_tool", {}, env="dev")
        assert denied.state == "denied" and denied.reasons[0].code == "unknown_tool"
        with pytest.raises(CountersignError) as refused:
            await agent.call("read_thing", {"thing_id": 1}, env="not an env")
        assert refused.value.code == "invalid"
        with pytest.raises(CountersignError) as missing:
            await agent.get(new_id())
        assert missing.value.code == "not_found"
        await agent.heartbeat(load=0.5, version="1.2.3")
    async with asyncio.timeout(10):
        while not (view := await world.ok("GET", "/api/v1/agents/worker-1")).get("last_seen"):
            await asyncio.sleep(0.05)
    assert view["heartbeat"]["version"] == "1.2.3"


@pytest.mark.parametrize("over", ["nats", "http"])
async def test_an_agent_that_restarted_finds_its_actions_again_and_withdraws_them(world: Any, over: str) -> None:
    async with world.agent(over=over) as agent:
        for n in range(3):
            await agent.submit("write_thing", {"thing_id": n + 1, "status": "x"}, env="prod", session_id="run-1")
        other = await agent.call("read_thing", {"thing_id": 1}, env="dev", session_id="run-2")
    async with world.agent("worker-2", over=over) as another:
        assert await another.actions(session_id="run-1") == []
        assert await another.actions() == []
    async with world.agent(over=over) as again:
        for found in await again.actions(session_id="run-1"):
            await world.until(found.request_id, "held")
        held = await again.actions(session_id="run-1", state="held")
        assert len(held) == 3 and [h.request_id for h in held] == sorted((h.request_id for h in held), reverse=True)
        assert [a.request_id for a in await again.actions(session_id="run-2")] == [other.request_id]
        assert [a.request_id for a in await again.actions(tool="read_thing")] == [other.request_id]
        assert [a.request_id for a in await again.actions(limit=2)] == [other.request_id, held[0].request_id]
        for each in held:
            assert (await again.cancel(each.request_id, "the run was given up")).state == "cancelled"
        assert await again.actions(session_id="run-1", state="held") == []
        with pytest.raises(CountersignError) as refused:
            await again.actions(state="no such state")
        assert refused.value.code == "invalid"


async def test_several_pages_are_put_together(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over NATS a page ends where one answer is full, whatever was asked for."""
    monkeypatch.setattr("countersign_gateway.ingress._PAGE_BYTES", 700)
    async with world.agent() as agent:
        wanted = [
            (await agent.submit("write_thing", {"thing_id": n + 1, "status": "x"}, env="prod")).request_id
            for n in range(5)
        ]
        assert [found.request_id for found in await agent.actions()] == wanted[::-1]


@pytest.mark.parametrize("over", ["nats", "http"])
async def test_while_it_waits_an_agent_hears_that_it_is_held_and_how_it_ends(world: Any, over: str) -> None:
    async with world.agent(over=over) as agent:
        heard: list[str] = []
        held = await agent.submit("write_thing", {"thing_id": 1, "status": "x"}, env="prod")
        await world.until(held.request_id, "held")
        waiting = asyncio.create_task(
            agent.wait(held.request_id, 20, on_change=lambda result: heard.append(result.state))
        )
        async with asyncio.timeout(10):
            while "held" not in heard:
                await asyncio.sleep(0.02)
        await world.vote(await world.approval_of(held.request_id), "approve")
        assert (await waiting).state == "succeeded"
        assert heard[0] == "held" and heard[-1] == "succeeded"


async def test_an_answer_that_the_gateway_did_not_sign_is_ignored(world: Any) -> None:
    """Whoever can publish on the results subject still cannot speak for the gateway."""
    async with world.agent() as agent:
        held = await agent.call("write_thing", {"thing_id": 1, "status": "x"}, env="prod", wait_s=0.2)
        waiting = asyncio.create_task(agent.wait(held.request_id, 3))
        await asyncio.sleep(0)
        forger = await world.stack.client("gateway-agents")
        ref = ActionRef(
            request_id=held.request_id,
            agent_id="worker-1",
            env="prod",
            tool="write_thing",
            tool_version=1,
            digest=held.digest,
        )
        lie = ActionResult.of(ref, "succeeded", now(), decision="allow")
        for _ in range(5):
            await forger.publish(f"agents.worker-1.results.{held.request_id}", lie.to_bytes())
            await forger.flush()
        with pytest.raises(TimeoutError):
            await waiting


async def test_nobody_there_is_said_in_one_line(tmp_path: Path) -> None:
    creds = tmp_path / "a.creds"
    creds.write_text("not credentials")
    with pytest.raises(CountersignError, match="not a NATS credentials file"):
        agent_in(creds)
    with pytest.raises(CountersignError, match="cannot read"):
        agent_in(tmp_path / "none.creds")
    async with Agent.http("http://127.0.0.1:9", "csa_x") as agent:
        with pytest.raises(Unavailable, match="does not answer"):
            await agent.submit("t", {}, env="dev", timeout_s=1)


async def test_the_trust_decides_whose_answers_count(world: Any) -> None:
    stranger = SigningKey.generate("gateway")
    key = TrustedKey(stranger.kid, "gateway", stranger.public_bytes, frozenset({"countersign.result.v1"}))
    trust = TrustBundle("elsewhere", {stranger.kid: key})
    async with Agent.nats(world.stack.nats_url, world.creds["worker-1"], trust=trust) as agent:
        with pytest.raises(CountersignError, match="not signed by the gateway"):
            await agent.call("read_thing", {"thing_id": 1}, env="dev")


def test_a_body_has_only_what_was_said() -> None:
    from countersign_sdk.agent import _body

    body = _body("t", {"a": 1}, "dev", None, ["person:a", "agent:b"], None, "id")
    assert orjson.loads(orjson.dumps(body)) == {
        "request_id": "id",
        "tool": "t",
        "args": {"a": 1},
        "env": "dev",
        "on_behalf_of": ["person:a", "agent:b"],
    }


async def test_an_agent_lives_while_its_block_runs_and_ends_in_order_or_by_a_crash(world: Any) -> None:
    async def phase(wanted: str) -> str:
        async with asyncio.timeout(20):
            while (view := await world.ok("GET", "/api/v1/agents/worker-1"))["phase"] != wanted:
                await asyncio.sleep(0.05)
        return str(view["phase_cause"])

    await world.apply({"agents.yaml": AGENTS.replace("profile: worker\n", "profile: worker\nheartbeat_s: 1\n")})
    async with world.agent() as agent:
        async with agent.alive(0.3, version="1.2.3"):
            await phase("running")
        assert await phase("stopped") == "it said that it stops"
        with pytest.raises(RuntimeError):
            async with agent.alive(0.3):
                await phase("running")
                raise RuntimeError("the agent crashes")
        assert "no heartbeat for" in await phase("failed")


@pytest.mark.parametrize("over", ["nats", "http"])
async def test_an_agent_follows_its_configuration_and_rejects_what_it_cannot_use(world: Any, over: str) -> None:
    taken: asyncio.Queue[ConfigValues] = asyncio.Queue()

    async def apply(values: ConfigValues) -> None:
        if values.settings and values.settings.get("depth", 0) > 9:
            raise ValueError("depth: at most 9")
        taken.put_nowait(values)

    async def put(depth: int) -> None:
        body = {"values": {"settings": {"depth": depth}}, "reason": "test", "wait_s": 0}
        await world.ok("PUT", "/api/v1/agents/worker-1/config", body)

    async def said(result: str) -> Any:
        async with asyncio.timeout(20):
            while True:
                found = await world.ok("GET", "/api/v1/agents/worker-1/config")
                applied = found.get("applied") or {}
                if applied.get("result") == result and applied["digest"] == found["digest"]:
                    return found
                await asyncio.sleep(0.05)

    async with world.agent(over=over) as agent, agent.configured(apply) as values:
        assert values.log_level == "INFO"
        assert (await said("applied"))["in_force"]
        await taken.get()
        if over == "http":
            return  # asked for every half minute on this way
        await put(3)
        async with asyncio.timeout(20):
            assert (await taken.get()).settings == {"depth": 3}
        assert (await said("applied"))["in_force"]
        await put(99)
        assert (await said("rejected"))["applied"]["reason"] == "depth: at most 9"
        assert taken.empty()
