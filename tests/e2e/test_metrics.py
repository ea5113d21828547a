"""What the whole product measures while it works, as Prometheus would read it off the pages."""

from __future__ import annotations

import asyncio
import time

from prometheus_client.parser import text_string_to_metric_families

from countersign_chassis import Metrics
from countersign_executor.measures import Measures
from countersign_harness.world import World

#: The most that a page may take to be made, of one processor.
PAGE_S = 0.05


async def page(world: World, service: str) -> dict[str, float]:
    """Every sample of a service's page, by its name and labels."""
    port = world.services[service].health.port
    async with world.http.get(f"http://127.0.0.1:{port}/metrics") as response:
        assert response.status == 200 and response.headers["content-type"].startswith("text/plain")
        text = await response.text()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def asked(world: World, path: str) -> int:
    """The public port's answer to the administrator."""
    given = {"Authorization": f"Bearer {world.tokens['admin']}"}
    async with world.http.get(world.url + path, headers=given) as response:
        return response.status


async def until(world: World, service: str, sample: str, value: float) -> None:
    """Wait until a sample has a value: gauges are counted now and then."""
    async with asyncio.timeout(30):
        while (await page(world, service)).get(sample) != value:
            await asyncio.sleep(0.1)


async def test_an_action_s_way_is_measured_at_every_stage(world: World) -> None:
    done = await world.submit("read_thing", {"thing_id": 1})
    assert done["state"] == "succeeded"
    denied = await world.submit("write_thing", {"thing_id": 1, "note": "not among the fields"})
    assert denied["state"] == "denied"
    held = await world.submit("write_thing", {"thing_id": 1, "status": "x"}, env="prod", wait=0)
    await world.vote(await world.approval_of(held["request_id"]), "approve")
    await world.until(held["request_id"], "succeeded")

    await until(world, "gateway", 'countersign_action_seconds_count{held="yes"}', 1)  # written after the answer
    gateway = await page(world, "gateway")
    assert gateway['countersign_action_seconds_count{held="no"}'] == 2
    assert gateway['countersign_action_seconds_count{held="yes"}'] == 1
    assert gateway['countersign_actions_ended_total{state="succeeded"}'] == 2
    answered = {name: value for name, value in gateway.items() if name.startswith("countersign_http_requests_total{")}
    assert any('route="/api/v1/actions",status="200"' in name for name in answered), sorted(answered)
    assert not any(held["request_id"] in name for name in gateway)

    assert await asked(world, "/metrics") == 404, "its callers are told no metrics, whoever they are"
    assert await asked(world, "/health/ready") == 200

    policy = await page(world, "policy")
    assert policy["countersign_decision_latency_seconds_count"] == 3
    assert policy["countersign_decision_latency_seconds_sum"] < 60
    assert policy['countersign_decisions_total{outcome="hold",reason="approval_required"}'] == 1
    assert policy['countersign_decisions_total{outcome="deny",reason="field_not_allowed"}'] == 1

    executor = await page(world, "executor")
    assert executor["countersign_execution_wait_seconds_count"] == 2
    assert executor['countersign_executions_total{outcome="succeeded",tool="read_thing"}'] == 1

    assert executor["countersign_confirmation_seconds_count"] == 2
    assert executor["countersign_confirmation_seconds_sum"] < 2

    audit = await page(world, "audit")
    command = 'command="countersign.command.audit.on_record.v1",outcome="ok"'
    assert audit[f"countersign_commands_total{{{command}}}"] == 0, "it told before it was asked"


async def test_stops_and_agents_are_counted(world: World) -> None:
    await world.ok("POST", "/api/v1/stops", {"scope": "tool:write_thing", "reason": "looking into it"})
    await until(world, "executor", 'countersign_stops_in_force{scope="tool"}', 1)
    shown = await page(world, "executor")
    assert shown['countersign_stops_in_force{scope="all"}'] == 0
    assert shown["countersign_stops_oldest_seconds"] > 0
    assert 'countersign_agents{status="active"}' in await page(world, "registry")
    async with world.agent("worker-1") as agent:
        await agent.heartbeat()
        await until(world, "registry", 'countersign_agents_seen{phase="running"}', 1)
        await until(world, "registry", 'countersign_agents_seen{phase="registered"}', 1)


async def test_every_service_shows_its_queues_and_its_pool(world: World) -> None:
    await world.submit("read_thing", {"thing_id": 1})
    consumers = {
        "gateway": "gateway-finals",
        "policy": "policy-actions",
        "approvals": "approvals-actions",
        "executor": "executor-actions",
        "audit": "audit-actions",
    }
    for service, consumer in consumers.items():
        await until(world, service, f'countersign_messages_pending{{consumer="{consumer}"}}', 0)
        shown = await page(world, service)
        assert f'countersign_messages_oldest_seconds{{consumer="{consumer}"}}' in shown
    for service in world.services:
        shown = await page(world, service)
        assert shown["countersign_ready"] == 1
        assert shown['countersign_database_connections{of="open"}'] >= 1


def test_a_page_with_as_many_tools_as_are_told_apart_is_made_in_time() -> None:
    metrics = Metrics()
    measures = Measures.of(metrics)
    for n in range(150):
        tool = measures.tools.of(f"tool_{n}")
        for outcome in ("succeeded", "failed", "unknown"):
            measures.executions.labels(tool, outcome).inc()
        measures.seconds.labels(tool).observe(0.1)
    measures.show_stops([])
    took = []
    for _ in range(7):
        began = time.thread_time()
        rendered, _ = metrics.page("application/openmetrics-text")
        took.append(time.thread_time() - began)
    assert rendered.count(b"countersign_execution_seconds_count") == 51, "fifty tools, and the others together"
    assert min(took) < PAGE_S, f"a page took {min(took) * 1000:.0f} ms"


async def test_the_action_behind_a_number_is_its_exemplar_and_nowhere_else(world: World) -> None:
    done = await world.submit("read_thing", {"thing_id": 1})
    await until(world, "gateway", 'countersign_action_seconds_count{held="no"}', 1)  # written after the answer
    openmetrics = {"Accept": "application/openmetrics-text; version=1.0.0"}
    histograms = {
        "gateway": "countersign_action_seconds_bucket",
        "policy": "countersign_decision_latency_seconds_bucket",
        "executor": "countersign_execution_seconds_bucket",
    }
    for service, name in histograms.items():
        url = f"http://127.0.0.1:{world.services[service].health.port}/metrics"
        async with world.http.get(url, headers=openmetrics) as response:
            assert response.headers["content-type"].startswith("application/openmetrics-text")
            lines = [line for line in (await response.text()).splitlines() if done["request_id"] in line]
        assert [line.partition("{")[0] for line in lines] == [name]
        before, exemplar = lines[0].split(" # ")
        assert done["request_id"] not in before and f'request_id="{done["request_id"]}"' in exemplar
        async with world.http.get(url) as response:
            assert done["request_id"] not in await response.text(), "the plain format has no exemplars"
