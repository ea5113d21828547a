"""Declared agents on real servers: all or nothing, once, and refused where somebody else was first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from countersign_chassis import Service
from countersign_contracts.catalogue import Document
from countersign_contracts.commands import ChangePlan, CommitAgents, PrepareAgents
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import AgentChanged, AgentRegistered

if TYPE_CHECKING:
    from .conftest import Fleet

AGENT = """\
kind: agent
agent_id: {agent_id}
name: {name}
owner: {{team: support}}
profile: support
environments: [dev, prod]
"""


def documents(**agents: str) -> tuple[Document, ...]:
    """A file for each agent, with its name."""
    return tuple(
        Document(path=f"agents/{agent_id}.yaml", text=AGENT.format(agent_id=agent_id, name=name))
        for agent_id, name in agents.items()
    )


async def prepare(fleet: Fleet, files: tuple[Document, ...], change_id: str = "chg_1") -> ChangePlan:
    plan: ChangePlan = await fleet.bus.ask(PrepareAgents(change_id=change_id, documents=files))
    return plan


async def commit(fleet: Fleet, files: tuple[Document, ...], base: str, change_id: str = "chg_1") -> ChangePlan:
    order = CommitAgents(change_id=change_id, base=base, by="ann", documents=files)
    plan: ChangePlan = await fleet.bus.ask(order)
    return plan


async def apply(fleet: Fleet, change_id: str = "chg_1", **agents: str) -> ChangePlan:
    files = documents(**agents)
    return await commit(fleet, files, (await prepare(fleet, files, change_id)).base, change_id)


async def test_agents_are_created_updated_and_left(fleet: Fleet, registry: Service) -> None:
    first = await prepare(fleet, documents(alpha="Alpha", beta="Beta"))
    assert [(c.name, c.action) for c in first.changes] == [("alpha", "create"), ("beta", "create")]
    assert await fleet.shown() is None
    await apply(fleet, alpha="Alpha", beta="Beta")
    second = await apply(fleet, "chg_2", alpha="Alpha", beta="Bettina", gamma="Gamma")
    assert [(c.name, c.action) for c in second.changes] == [
        ("alpha", "unchanged"),
        ("beta", "update"),
        ("gamma", "create"),
    ]
    assert second.changes[1].before is not None
    assert second.changes[1].after is not None
    assert (second.changes[1].before["name"], second.changes[1].after["name"]) == ("Beta", "Bettina")
    shown = [await fleet.shown(agent_id) for agent_id in ("alpha", "beta", "gamma")]
    assert [(a.name, a.revision) for a in shown if a] == [("Alpha", 1), ("Bettina", 2), ("Gamma", 1)]
    events = await fleet.events(4)
    assert [e.event_id() for e in events] == [
        "alpha.registered.chg_1",
        "beta.registered.chg_1",
        "beta.configured.chg_2",
        "gamma.registered.chg_2",
    ]
    assert isinstance(events[2], AgentChanged)
    assert (events[2].before.name, events[2].agent.name, events[2].by) == ("Beta", "Bettina", "ann")


async def test_a_change_keeps_status_and_credentials(fleet: Fleet, registry: Service) -> None:
    await fleet.register()
    issued = await fleet.issue()
    paused = await fleet.set_status("paused")
    await apply(fleet, alpha="Renamed")
    agent = (await fleet.get()).agent
    assert (agent.name, agent.status, agent.revision) == ("Renamed", "paused", paused.agent.revision + 1)
    assert tuple(c.credential_id for c in agent.credentials) == issued.credential_ids


async def test_committing_again_answers_the_same_and_changes_nothing(fleet: Fleet, registry: Service) -> None:
    files = documents(alpha="Alpha")
    base = (await prepare(fleet, files)).base
    plans = await asyncio.gather(*(commit(fleet, files, base) for _ in range(5)))
    assert {plan.model_dump_json() for plan in plans} == {plans[0].model_dump_json()}
    assert plans[0].changes[0].action == "create"
    await fleet.set_status("paused")
    assert await commit(fleet, files, base) == plans[0]
    assert (await fleet.get()).agent.status == "paused"
    await fleet.events(2)


async def test_a_change_is_stale_when_a_declared_agent_moved_and_only_then(fleet: Fleet, registry: Service) -> None:
    await fleet.register()
    files = documents(alpha="Renamed", beta="Beta")
    base = (await prepare(fleet, files)).base
    await fleet.issue()
    await fleet.set_status("paused")
    await fleet.register("gamma")
    assert (await prepare(fleet, files)).base == base
    await fleet.register("beta")
    with pytest.raises(CountersignError, match="apply the files again") as error:
        await commit(fleet, files, base)
    assert error.value.code == "stale"
    assert (await fleet.get()).agent.name == "Alpha"


async def test_a_change_with_an_error_changes_nothing(fleet: Fleet, registry: Service) -> None:
    files = (*documents(alpha="Alpha"), Document(path="agents/b.yaml", text="kind: agent\nagent_id: B\n"))
    plan = await prepare(fleet, files)
    assert plan.errors
    assert plan.changes == ()
    with pytest.raises(CountersignError):
        await commit(fleet, files, plan.base)
    assert await fleet.sql("SELECT FROM agent") == []


async def test_registrations_and_a_change_of_the_same_agents_do_not_mix(fleet: Fleet, registry: Service) -> None:
    """Whoever is first has all of it: the change is applied whole, or not at all."""
    ids = [f"a-{i}" for i in range(8)]
    files = documents(**{agent_id: "Declared" for agent_id in ids})
    base = (await prepare(fleet, files)).base
    results = await asyncio.gather(
        *(fleet.register(i) for i in reversed(ids[4:])), commit(fleet, files, base), return_exceptions=True
    )
    names = {row["name"] for row in await fleet.sql("SELECT name FROM agent")}
    if isinstance(results[-1], ChangePlan):
        assert names == {"Declared"}
        assert all(isinstance(e, AgentRegistered) for e in await fleet.events(8))
    else:
        assert isinstance(results[-1], CountersignError)
        assert results[-1].code == "stale"
        assert names <= {"Alpha"}
