"""Agents that live, end, fall silent and come back, over real NATS."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from countersign_chassis import Service
from countersign_contracts.commands import Agents, ListAgents
from countersign_contracts.fleet import AgentPhaseChanged
from countersign_registry.phase_store import PhaseStore

if TYPE_CHECKING:
    from .conftest import Agent, Fleet


async def phase(fleet: Fleet, wanted: str, agent_id: str = "alpha") -> None:
    async with asyncio.timeout(20):
        while (await fleet.get(agent_id)).phase != wanted:
            await asyncio.sleep(0.02)


async def told(fleet: Fleet) -> list[tuple[str, str, str]]:
    """Every change of phase on the stream: agent, before, after."""
    opened = [event for event in await fleet.every_event() if isinstance(event, AgentPhaseChanged)]
    return [(event.agent_id, event.before, event.phase) for event in opened]


async def living(fleet: Fleet, agent_id: str = "alpha", heartbeat_s: int = 1) -> Agent:
    await fleet.register(agent_id, heartbeat_s=heartbeat_s)
    return await fleet.connect((await fleet.issue(agent_id)).nats_creds, agent_id)


async def test_an_agent_runs_falls_silent_and_comes_back(fleet: Fleet) -> None:
    await fleet.run(heartbeat_flush_s=0.2)
    agent = await living(fleet)
    assert (await fleet.get()).phase == "registered"
    await agent.beat()
    began = asyncio.get_running_loop().time()
    await phase(fleet, "running")
    await phase(fleet, "failed")
    assert 2.4 < asyncio.get_running_loop().time() - began < 6, "three intervals, and what a busy machine takes"
    view = await fleet.get()
    assert view.phase_cause is not None and "no heartbeat for" in view.phase_cause
    page: Agents = await fleet.bus.ask(ListAgents(phase="failed"))
    assert [each.agent.agent_id for each in page.items] == ["alpha"]
    await agent.beat()
    await phase(fleet, "running")
    await agent.beat(b'{"status": "stopping"}')
    await phase(fleet, "stopped")
    await fleet.until(lambda: four(fleet))
    assert await told(fleet) == [
        ("alpha", "registered", "running"),
        ("alpha", "running", "failed"),
        ("alpha", "failed", "running"),
        ("alpha", "running", "stopped"),
    ]
    await asyncio.sleep(3)  # what has stopped is not silent
    assert (await fleet.get()).phase == "stopped"


async def four(fleet: Fleet) -> bool:
    return len(await told(fleet)) >= 4


async def test_two_registries_change_a_phase_once_and_a_new_one_waits_before_it_judges(fleet: Fleet) -> None:
    first = await fleet.run(heartbeat_flush_s=0.2)
    second = await fleet.another(heartbeat_flush_s=0.2)
    agent = await living(fleet, heartbeat_s=2)
    await agent.beat()
    await phase(fleet, "running")
    over = asyncio.Event()

    async def beats() -> None:
        while not over.is_set():
            await agent.beat()
            await asyncio.sleep(0.3)

    async with asyncio.TaskGroup() as group:
        group.create_task(beats())
        await asyncio.sleep(1)
        await second.stop()
        await fleet.another(heartbeat_flush_s=0.2)
        await asyncio.sleep(6)
        over.set()
    assert (await fleet.get()).phase == "running"
    await phase(fleet, "failed")
    await fleet.until(lambda: seen_failed(fleet))
    assert await told(fleet) == [("alpha", "registered", "running"), ("alpha", "running", "failed")]
    assert changes(first, "running") <= 1


async def seen_failed(fleet: Fleet) -> bool:
    return len(await told(fleet)) >= 2


def changes(registry: Service, name: str) -> float:
    value: Any = registry.metrics.registry.get_sample_value("countersign_agent_phase_changes_total", {"phase": name})
    return float(value or 0)


async def test_a_revoked_agent_is_stopped_not_failed(fleet: Fleet) -> None:
    await fleet.run(heartbeat_flush_s=0.2)
    agent = await living(fleet)
    await agent.beat()
    await phase(fleet, "running")
    await fleet.set_status("revoked")
    await phase(fleet, "stopped")
    assert (await fleet.get()).phase_cause == "it was revoked, and is silent"


async def test_a_revoked_agent_counts_no_more(fleet: Fleet) -> None:
    registry = await fleet.run(heartbeat_flush_s=0.2)
    agent = await living(fleet)
    await agent.beat()
    await phase(fleet, "failed")
    phases = PhaseStore(registry.db)
    assert await phases.counts() == {"failed": 1}
    await fleet.set_status("revoked")
    assert await phases.counts() == {}, "nobody is alerted of an agent that was ended on purpose"


@pytest.mark.parametrize("count", [300])
async def test_a_fleet_that_falls_silent_at_once_is_told_agent_by_agent(fleet: Fleet, count: int) -> None:
    """More than one batch of events; a beat writes nothing but the phase."""
    registry = await fleet.run(heartbeat_flush_s=300)
    ids = [f"fleet-{number}" for number in range(count)]
    for agent_id in ids:
        await fleet.register(agent_id, heartbeat_s=2)
    connection = registry.bus.connection
    assert connection.client.is_connected
    gateway = await fleet.stack.client("gateway-agents")
    for agent_id in ids:
        await gateway.publish(f"agents.{agent_id}.heartbeat", b"{}")
    await gateway.flush()

    async def all_failed() -> bool:
        return changes(registry, "failed") == count

    async with asyncio.timeout(60):
        while not await all_failed():
            await asyncio.sleep(0.1)
    assert changes(registry, "running") == count
    rows = await fleet.sql("SELECT phase, count(*) AS n FROM phase GROUP BY 1")
    assert [(row["phase"], row["n"]) for row in rows] == [("failed", count)]
