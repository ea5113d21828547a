"""Heartbeats over real NATS: whose they are, what is kept of them, and how seldom they are written."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson

from countersign_chassis import Service
from countersign_contracts.commands import ListAgents
from countersign_contracts.model import now

if TYPE_CHECKING:
    from .conftest import Fleet


def count(registry: Service, name: str, **labels: str) -> float:
    return registry.metrics.registry.get_sample_value(f"countersign_heartbeats_{name}_total", labels) or 0


async def test_an_agent_is_seen_at_once_and_after_a_restart(fleet: Fleet) -> None:
    await fleet.run(heartbeat_flush_s=300)
    await fleet.register()
    assert (await fleet.get()).last_seen is None
    agent = await fleet.connect((await fleet.issue()).nats_creds)
    said = {"status": "working", "uptime_s": 12.5, "version": "1.2.0", "load": 0.25}
    await agent.beat(orjson.dumps({**said, "agent_id": "beta", "extra": [1]}))
    await fleet.until(lambda: seen(fleet))
    view = await fleet.get()
    assert view.last_seen is not None
    assert abs((now() - view.last_seen).total_seconds()) < 2
    assert view.heartbeat == said
    page = await fleet.bus.ask(ListAgents())
    assert [(each.agent, each.last_seen) for each in page.items] == [(view.agent, view.last_seen)]

    assert await fleet.sql("SELECT FROM heartbeat") == []
    await fleet.run()
    again = await fleet.get()
    assert (again.last_seen, again.heartbeat) == (view.last_seen, view.heartbeat)


async def test_the_server_refuses_a_heartbeat_for_another_agent(fleet: Fleet, registry: Service) -> None:
    await fleet.register("alpha")
    await fleet.register("beta")
    agent = await fleet.connect((await fleet.issue()).nats_creds)
    await agent.beat(b'{"agent_id": "beta"}', "agents.beta.heartbeat")
    await agent.beat()
    await fleet.until(lambda: seen(fleet))
    assert (await fleet.get("beta")).last_seen is None
    assert count(registry, "received") == 1


async def test_what_is_no_heartbeat_is_refused_and_counted(fleet: Fleet, registry: Service) -> None:
    await fleet.register()
    agent = await fleet.connect((await fleet.issue()).nats_creds)
    await agent.beat(b"{")
    await agent.beat(b"[]")
    await agent.beat(b'{"uptime_s": "long"}')
    await agent.beat(b'{"load": -1}')
    await agent.beat(b'{"status": "' + b"x" * 4096 + b'"}')
    await agent.beat(b"[" * 4096)
    await agent.beat(b"")
    await fleet.until(lambda: seen(fleet))
    assert count(registry, "received") == 1
    assert count(registry, "refused", code="malformed") == 5
    assert count(registry, "refused", code="too_large") == 1


COUNT_WRITES = """
CREATE SEQUENCE writes;
CREATE FUNCTION written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = registry
AS $$ BEGIN PERFORM nextval('writes'); RETURN NULL; END $$;
CREATE TRIGGER count_writes AFTER INSERT ON heartbeat FOR EACH STATEMENT EXECUTE FUNCTION written()
"""


async def test_heartbeats_are_written_together_and_never_go_back(fleet: Fleet) -> None:
    registry = await fleet.run(heartbeat_flush_s=0.5)
    for statement in COUNT_WRITES.split(";\nCREATE"):
        await fleet.sql(statement if statement.lstrip().startswith("CREATE") else f"CREATE{statement}")
    ids = [f"a-{i}" for i in range(5)]
    agents = []
    for agent_id in ids:
        await fleet.register(agent_id)
        agents.append(await fleet.connect((await fleet.issue(agent_id)).nats_creds, agent_id))
    # as if another registry had heard a later one
    await fleet.sql("INSERT INTO heartbeat VALUES ('a-0', '2100-01-01T00:00:00Z', '{\"version\": \"later\"}')")
    for _ in range(20):
        await asyncio.gather(*(agent.beat() for agent in agents))

    async def all_written() -> bool:
        return len(await fleet.sql("SELECT FROM heartbeat")) == 5 and count(registry, "received") == 100

    await fleet.until(all_written)
    (writes,) = await fleet.sql("SELECT last_value AS n FROM writes")
    assert writes["n"] <= 10
    assert (await fleet.get("a-0")).heartbeat == {"version": "later"}


async def test_a_heartbeat_of_an_agent_that_the_registry_does_not_know_is_dropped(
    fleet: Fleet, registry: Service
) -> None:
    """The database was restored from a backup: the agent's credentials are good, its row is gone."""
    await fleet.register()
    agent = await fleet.connect((await fleet.issue()).nats_creds)
    await fleet.sql("DELETE FROM credential")
    await fleet.sql("DELETE FROM agent")
    await agent.beat()
    await fleet.register("beta")
    beta = await fleet.connect((await fleet.issue("beta")).nats_creds, "beta")
    await beta.beat()

    async def written() -> bool:
        return [row["agent_id"] for row in await fleet.sql("SELECT agent_id FROM heartbeat")] == ["beta"]

    await fleet.until(written)
    await fleet.register()
    assert (await fleet.get()).last_seen is None


async def seen(fleet: Fleet, agent_id: str = "alpha") -> bool:
    return (await fleet.get(agent_id)).last_seen is not None
