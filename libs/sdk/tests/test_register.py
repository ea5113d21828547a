"""Agents that register themselves through the SDK, live, renew, come back, and are sent away."""

from __future__ import annotations

import asyncio
import json
import logging
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from countersign_harness.world import World
from countersign_sdk import Agent, CountersignError
from countersign_sdk.enrolled import EnrolledTransport
from countersign_sdk.identity import Identity


@pytest_asyncio.fixture
async def brief(stack: Any) -> AsyncIterator[World]:
    """A world whose credentials last four seconds."""
    world = World(stack)
    try:
        await world.start(overrides={"registry": {"credentials_lifetime_s": 4, "heartbeat_flush_s": 0.2}})
        yield world
    finally:
        await world.stop()


async def a_token(world: Any, **more: Any) -> Any:
    body = {"agent_type": "guard", "owner": {"team": "ops"}, "profile": "worker", "environments": ["dev"]}
    return await world.ok("POST", "/api/v1/agents/tokens", body | {"heartbeat_s": 1} | more)


def guard(world: Any, token: Any, key_file: Path, *, over: str = "http") -> Agent:
    where: dict[str, Any] = {"gateway": world.url}
    if over == "nats":
        creds = key_file.with_suffix(".bootstrap")
        creds.write_text(token["nats_creds"])
        where = {"bootstrap_creds": creds}
    return Agent.register(
        world.stack.nats_url,
        token=token["secret"],
        agent_type="guard",
        name="Guard",
        version="1.0.0",
        key_file=key_file,
        trust=world.stack.trust(),
        **where,
    )


async def until_phase(world: Any, agent_id: str | None, phase: str) -> Any:
    async with asyncio.timeout(20):
        while (view := await world.ok("GET", f"/api/v1/agents/{agent_id}"))["phase"] != phase:
            await asyncio.sleep(0.05)
    return view


@pytest.mark.parametrize("over", ["http", "nats"])
async def test_it_registers_lives_acts_and_comes_back_as_itself(world: Any, tmp_path: Path, over: str) -> None:
    token, key_file = await a_token(world), tmp_path / "guard.key"
    async with guard(world, token, key_file, over=over) as agent:
        me = agent.agent_id
        assert me is not None and me.startswith("guard-")
        outcome = await agent.call("read_thing", {"thing_id": 1}, env="dev")
        assert outcome.state == "succeeded" and outcome.agent_id == me
        view = await until_phase(world, me, "running")
        assert view["heartbeat"]["version"] == "1.0.0"
    await until_phase(world, me, "stopped")
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert json.loads(key_file.read_text())["agent_id"] == me
    async with guard(world, token, key_file, over=over) as agent:
        assert agent.agent_id == me
        await until_phase(world, me, "running")
    with pytest.raises(CountersignError) as refused:
        async with guard(world, token, tmp_path / "other.key", over=over):
            pass
    assert refused.value.code == "conflict"


async def test_it_renews_before_its_credentials_end_and_loses_no_result(brief: Any, tmp_path: Path) -> None:
    token = await a_token(brief)
    async with guard(brief, token, tmp_path / "guard.key", over="nats") as agent:
        transport: EnrolledTransport = agent._transport  # type: ignore[assignment]
        clients = set()
        ended = 0
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - began < 11:
            clients.add(id(transport._client))
            accepted = await agent.submit("read_thing", {"thing_id": 1}, env="dev")
            assert (await agent.wait(accepted.request_id, 10)).state == "succeeded"
            ended += 1
        assert len(clients) >= 3 and ended > 10, "over several credentials, and no action was lost"


async def test_an_agent_that_was_away_comes_back_by_its_key(brief: Any, tmp_path: Path) -> None:
    token, key_file = await a_token(brief, expires_in_s=3), tmp_path / "guard.key"
    async with guard(brief, token, key_file) as agent:
        me = agent.agent_id
    await asyncio.sleep(6)  # its credentials and the token have ended
    async with guard(brief, token, key_file) as agent:
        assert agent.agent_id == me
        assert (await agent.call("read_thing", {"thing_id": 1}, env="dev")).state == "succeeded"


async def test_who_is_revoked_is_sent_away_for_good(brief: Any, tmp_path: Path, caplog: Any) -> None:
    token, key_file = await a_token(brief), tmp_path / "guard.key"
    async with guard(brief, token, key_file) as agent:
        transport: EnrolledTransport = agent._transport  # type: ignore[assignment]
        assert transport._keeping is not None
        done = await brief.ok(
            "POST", "/api/v1/agents/orders", {"order": "revoke", "agent_type": "guard", "reason": "x"}
        )
        assert [each["agent_id"] for each in done["changed"]] == [agent.agent_id]
        async with asyncio.timeout(15):
            await transport._keeping
    log = logging.getLogger("countersign.agent")
    state = (log.disabled, log.propagate, log.getEffectiveLevel(), logging.root.manager.disable, logging.root.handlers)
    assert "renews its credentials no more" in caplog.text, state
    with pytest.raises(CountersignError, match="revoked"):
        async with guard(brief, token, key_file):
            pass


def test_a_key_file_is_the_agent_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    made = Identity.kept_in(path)
    assert Identity.kept_in(path).public == made.public
    path.chmod(0o640)
    with pytest.raises(CountersignError, match="may be read by others"):
        Identity.kept_in(path)
    path.chmod(0o600)
    for text in ("", "{}", "[]", '{"seed": "SUnonsense"}'):
        path.write_text(text)
        with pytest.raises(CountersignError, match="holds no agent's key"):
            Identity.kept_in(path)
    with pytest.raises(CountersignError, match="cannot keep"):
        Identity.kept_in(tmp_path / "nowhere" / "a.key")
