"""Configuration over real NATS: layers, versions, what agents that run say, and what is refused."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest

from countersign_chassis import Service
from countersign_contracts.agent_config import (
    AgentConfig,
    ConfigApplied,
    ConfigChange,
    ConfigChanged,
    ConfigHistory,
    ConfigValues,
    GetConfig,
    RollBackConfig,
    SetConfig,
)
from countersign_contracts.errors import CountersignError
from countersign_registry.config_rules import check_layer

if TYPE_CHECKING:
    from .conftest import Agent, Fleet


async def put(fleet: Fleet, scope: str = "agent:alpha", schema: Any = None, **more: Any) -> ConfigChange:
    values = ConfigValues(**more.pop("values", {}))
    order = SetConfig(scope=scope, values=values, settings_schema=schema, by="ann", reason="because", **more)
    return cast(ConfigChange, await fleet.bus.ask(order))


async def config(fleet: Fleet, agent_id: str = "alpha") -> AgentConfig:
    return cast(AgentConfig, await fleet.bus.ask(GetConfig(agent_id=agent_id)))


async def running(fleet: Fleet, agent_id: str = "alpha") -> Agent:
    """An agent in plain nats-py that lives."""
    await fleet.register(agent_id)
    agent = await fleet.connect((await fleet.issue(agent_id)).nats_creds, agent_id)
    await agent.beat()
    async with asyncio.timeout(10):
        while (await fleet.get(agent_id)).phase != "running":
            await asyncio.sleep(0.02)
    return agent


async def obeys(agent: Agent, result: str = "applied", **more: str) -> list[Any]:
    """Answers what is sent as told; returns what came."""
    came: list[Any] = []

    async def hear(msg: Any) -> None:
        came.append(orjson.loads(msg.data))
        said = {"digest": came[-1]["digest"], "result": result, **more}
        await agent.client.publish(f"agents.{agent.agent_id}.configured", orjson.dumps(said))

    await agent.client.subscribe(f"agents.{agent.agent_id}.control.config", cb=hear)
    await agent.client.flush()
    return came


async def of_type(fleet: Fleet, agent_type: str, *agent_ids: str) -> None:
    for agent_id in agent_ids:
        await fleet.sql(f"UPDATE agent SET agent_type = '{agent_type}' WHERE agent_id = '{agent_id}'")


async def test_the_higher_layer_counts_and_each_is_seen(fleet: Fleet) -> None:
    await fleet.run(agent_config=ConfigValues(log_level="WARNING"))
    await fleet.register()
    await of_type(fleet, "scout", "alpha")
    found = await config(fleet)
    assert (found.effective.log_level, found.effective.metrics_interval_s) == ("WARNING", 60)
    await put(fleet, "type:scout", values={"log_level": "ERROR", "settings": {"depth": 1, "width": 2}})
    await put(fleet, "agent:alpha", values={"settings": {"depth": 5}})
    await put(fleet, "runtime:alpha", values={"log_level": "DEBUG"})
    found = await config(fleet)
    assert found.effective.log_level == "DEBUG"
    assert found.effective.settings == {"depth": 5, "width": 2}
    assert [(layer.layer, layer.version) for layer in found.layers] == [
        ("default", 0),
        ("environment", 0),
        ("type", 1),
        ("agent", 1),
        ("runtime", 1),
    ]
    assert (found.in_force, found.applied) == (False, None)


async def test_an_agent_that_runs_is_sent_it_and_its_word_is_kept(fleet: Fleet, registry: Service) -> None:
    agent = await running(fleet)
    came = await obeys(agent)
    change = await put(fleet, values={"log_level": "DEBUG"}, wait_s=10)
    assert (change.applied, change.rejected, change.pending) == (1, (), 0)
    assert came[0]["values"]["log_level"] == "DEBUG"
    found = await config(fleet)
    assert found.digest == came[0]["digest"]
    assert found.in_force and found.applied is not None
    events = await fleet.every_event()
    assert [e.change.version for e in events if isinstance(e, ConfigChanged)] == [1]
    told = [e.applied.result for e in events if isinstance(e, ConfigApplied)]
    assert told in ([], ["applied"]), "it follows"
    # asked for by one that was away
    reply = await agent.client.request("agents.alpha.config", b"{}", timeout=10)
    assert orjson.loads(reply.data)["digest"] == found.digest
    assert (await put(fleet, values={"log_level": "DEBUG"})).changed is False


async def test_what_an_agent_rejects_is_told_with_its_reason(fleet: Fleet, registry: Service) -> None:
    agent = await running(fleet)
    await obeys(agent, "rejected", reason="no such level here")
    change = await put(fleet, values={"log_level": "DEBUG"}, wait_s=10)
    assert [(each.agent_id, each.reason) for each in change.rejected] == [("alpha", "no such level here")]
    found = await config(fleet)
    assert not found.in_force
    assert found.applied is not None and found.applied.result == "rejected"


async def test_one_that_says_nothing_is_pending(fleet: Fleet, registry: Service) -> None:
    await running(fleet)
    change = await put(fleet, values={"log_level": "DEBUG"}, wait_s=0.2)
    assert (change.applied, change.pending) == (0, 1)


async def test_an_agent_speaks_for_itself_alone(fleet: Fleet, registry: Service) -> None:
    agent = await running(fleet)
    await fleet.register("beta")
    digest = (await config(fleet, "beta")).digest
    said = orjson.dumps({"digest": digest, "result": "applied"})
    await agent.client.publish("agents.beta.configured", said)
    await agent.client.publish("agents.alpha.configured", b"{")
    await agent.client.publish("agents.alpha.configured", said)
    async with asyncio.timeout(10):
        while (await config(fleet)).applied is None:
            await asyncio.sleep(0.02)
    assert (await config(fleet, "beta")).applied is None


SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["depth"],
    "properties": {"depth": {"type": "integer", "minimum": 1}},
}


async def refused(fleet: Fleet, scope: str, schema: Any = None, **more: Any) -> CountersignError:
    with pytest.raises(CountersignError) as error:
        await put(fleet, scope, schema, **more)
    return error.value


def nested(levels: int) -> Any:
    return [nested(levels - 1)] if levels else 1


async def test_what_is_wrong_is_refused_with_its_field_and_the_old_one_stays(fleet: Fleet, registry: Service) -> None:
    await fleet.register()
    await of_type(fleet, "scout", "alpha")
    await put(fleet, "type:scout", SCHEMA, values={"settings": {"depth": 2}})
    for scope, schema, values, field in (
        ("agent:alpha", None, {"settings": {"depth": "deep"}}, "settings.depth"),
        ("agent:alpha", None, {"settings": {"dept": 3}}, "settings"),
        ("type:scout", SCHEMA, {"settings": {}}, "settings"),
        ("type:scout", {"type": "objekt"}, {"settings": {}}, "settings_schema"),
        ("type:scout", {"$ref": "https://example.com/s.json"}, {"settings": {}}, "settings_schema"),
        ("type:scout", {"allOf": [{"$ref": "#"}]}, {"settings": {}}, "settings_schema"),
        ("agent:alpha", None, {"settings": {"depth": nested(30)}}, "settings"),
        ("agent:alpha", SCHEMA, {"settings": {}}, "settings_schema"),
        ("agent:alpha", None, {"settings": {"text": "x" * 70_000}}, "settings"),
    ):
        error = await refused(fleet, scope, schema, values=values)
        assert error.code == "invalid" and error.detail.startswith(f"{field}:"), error.detail
        assert "stays" in error.detail
    assert (await refused(fleet, "agent:nobody")).code == "not_found"
    found = await config(fleet)
    assert found.effective.settings == {"depth": 2}
    assert [layer.version for layer in found.layers] == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("keyword", ["$schema", "$ref", "$dynamicRef"])
def test_a_settings_schema_makes_the_registry_ask_nobody(keyword: str) -> None:
    """Who declares one could have it fetch any address that the registry reaches, and stand still meanwhile."""
    asked: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(CountersignError, match=r"^settings_schema: it"):
                check_layer(
                    "type:scout", ConfigValues(), {keyword: f"http://127.0.0.1:{server.server_port}/", **SCHEMA}
                )
        finally:
            server.shutdown()
            thread.join()
    assert asked == []


async def test_versions_are_kept_compared_and_gone_back_to(fleet: Fleet, registry: Service) -> None:
    await fleet.register()
    for level in ("DEBUG", "ERROR"):
        await put(fleet, values={"log_level": level})
    error = await refused(fleet, "agent:alpha", values={"log_level": "INFO"}, base=1)
    assert error.code == "stale" and "version 2" in error.detail
    order = RollBackConfig(scope="agent:alpha", version=1, by="ben", reason="too quiet")
    back: ConfigChange = await fleet.bus.ask(order)
    assert (back.version.version, back.version.values.log_level) == (3, "DEBUG")
    page = await fleet.bus.ask(ConfigHistory(scope="agent:alpha", limit=2))
    assert [(v.version, v.by, v.reason) for v in page.items] == [
        (3, "ben", "back to version 1: too quiet"),
        (2, "ann", "because"),
    ]
    page = await fleet.bus.ask(ConfigHistory(scope="agent:alpha", limit=2, before=page.next))
    assert [v.version for v in page.items] == [1] and page.next is None


async def test_two_that_change_a_layer_at_once_are_two_versions(fleet: Fleet, registry: Service) -> None:
    await fleet.register()
    await asyncio.gather(*(put(fleet, values={"metrics_interval_s": n}) for n in range(1, 11)))
    page = await fleet.bus.ask(ConfigHistory(scope="agent:alpha"))
    assert [v.version for v in page.items] == list(range(10, 0, -1))
