"""What every service measures, on real servers: queues, redeliveries, commands, HTTP, the pool."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from countersign_chassis import Delivery, Metrics, Service, ServiceSettings
from countersign_chassis.http import HttpServer
from countersign_chassis.measured import MeasuredApp
from countersign_chassis.metrics import OTHER, Bounded
from countersign_chassis.queue_watch import Standing, standing
from countersign_contracts.actions import Action, ActionRequested
from countersign_contracts.canonical import action_digest
from countersign_contracts.command import Done
from countersign_contracts.commands import CancelAction
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import new_id
from countersign_contracts.model import now


def requested(n: int = 0) -> ActionRequested:
    parts: dict[str, Any] = {"principal_chain": (), "env": "prod", "tool": "t", "tool_version": 1, "args": {"n": n}}
    digest = action_digest(agent="worker-1", session=None, **parts)
    action = Action(request_id=new_id(), agent_id="worker-1", digest=digest, requested_at=now(), **parts)
    return ActionRequested(action=action, channel="http", credential_id="c")


def shown(metrics: Metrics, name: str, **labels: str) -> float | None:
    """A sample of the page, as Prometheus reads it."""
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    return None


class Consuming:
    """A service that takes actions, and fails or waits when told to."""

    def __init__(self, stack: Any) -> None:
        self.service = Service("policy", ServiceSettings(**stack.settings("policy"), log_level="error"))
        self.service.consume("policy-actions", self.handle, max_batch=1)
        self.fail = 0
        self.free = asyncio.Event()
        self.begun = asyncio.Event()
        self.handled = 0

    async def handle(self, batch: list[Delivery]) -> None:
        self.begun.set()
        if self.fail:
            self.fail -= 1
            raise OSError("away for a moment")
        await self.free.wait()
        self.handled += len(batch)

    def shown(self, name: str, **labels: str) -> float | None:
        return shown(self.service.metrics, name, **labels)

    async def until(self, enough: Any) -> None:
        async with asyncio.timeout(30):
            while not enough():
                await asyncio.sleep(0.01)


async def test_what_waits_and_for_how_long_is_shown(stack: Any) -> None:
    gateway = await stack.bus("gateway")
    consuming = Consuming(stack)
    await gateway.publish_all([(requested(n), None) for n in range(5)])
    await asyncio.sleep(1.1)  # the age is what is measured here
    await consuming.service.start()
    await consuming.begun.wait()
    watch = consuming.service._queue_watch
    await watch.look()
    of = {"consumer": "policy-actions"}
    waiting = (consuming.shown("countersign_messages_pending", **of) or 0) + (
        consuming.shown("countersign_messages_unacknowledged", **of) or 0
    )
    assert waiting == 5
    age = consuming.shown("countersign_messages_oldest_seconds", **of)
    assert age is not None and 1.0 < age < 30
    consuming.free.set()
    await consuming.until(lambda: consuming.handled == 5)

    async def settled() -> bool:
        await watch.look()
        return consuming.shown("countersign_messages_unacknowledged", **of) == 0

    async with asyncio.timeout(20):
        while not await settled():
            await asyncio.sleep(0.02)
    assert consuming.shown("countersign_messages_pending", **of) == 0
    assert consuming.shown("countersign_messages_oldest_seconds", **of) == 0
    assert consuming.shown("countersign_messages_handled_total", **of) == 5
    assert consuming.shown("countersign_messages_redelivered_total", **of) == 0
    await consuming.service.stop()
    await watch.look()
    assert consuming.shown("countersign_messages_pending", **of) is None, "what does not run here shows nothing"


async def test_a_failure_and_its_redelivery_are_counted(stack: Any) -> None:
    gateway = await stack.bus("gateway")
    consuming = Consuming(stack)
    consuming.fail = 2
    consuming.free.set()
    await consuming.service.start()
    await gateway.publish(requested())
    await consuming.until(lambda: consuming.handled == 1)
    of = {"consumer": "policy-actions"}
    assert consuming.shown("countersign_messages_failed_total", **of) == 2
    assert consuming.shown("countersign_messages_redelivered_total", **of) == 2
    await consuming.service.stop()


async def test_commands_are_measured_by_outcome(stack: Any) -> None:
    service = Service("policy", ServiceSettings(**stack.settings("policy"), log_level="error"))
    raised: list[Exception] = []

    async def cancel(_: CancelAction) -> Done:
        if raised:
            raise raised.pop()
        return Done()

    service.answer(CancelAction, cancel)
    await service.start()
    gateway = await stack.bus("gateway")
    command = CancelAction(request_id=new_id(), agent_id="worker-1", by="person:alice", reason=None)
    await gateway.ask(command)
    for error in (CountersignError("no such action", code="not_found"), OSError("away"), RuntimeError("a defect")):
        raised.append(error)
        with pytest.raises(CountersignError):
            await gateway.ask(command)
    name = CancelAction.rpc.type
    for outcome in ("ok", "refused", "unavailable", "failed"):
        assert shown(service.metrics, "countersign_commands_total", command=name, outcome=outcome) == 1, outcome
    assert shown(service.metrics, "countersign_command_seconds_count", command=name) == 4
    await service.stop()


async def test_the_pool_is_measured_whoever_takes_a_connection(stack: Any) -> None:
    service = Service("policy", ServiceSettings(**stack.settings("policy"), log_level="error", postgres_pool_max=2))
    await service.start()
    count = "countersign_database_wait_seconds_count"
    before = shown(service.metrics, count) or 0
    assert await service.db.pool.fetchval("SELECT 1") == 1
    async with service.db.connection() as connection, service.db.transaction():
        assert await connection.fetchval("SELECT 1") == 1
        assert shown(service.metrics, "countersign_database_connections", of="open") == 2
        assert shown(service.metrics, "countersign_database_connections", of="idle") == 0
        waiting = asyncio.create_task(service.db.pool.fetchval("SELECT 1"))
        await asyncio.sleep(0.2)
    await waiting
    assert shown(service.metrics, "countersign_database_connections", of="most") == 2
    assert shown(service.metrics, count) == before + 4
    assert (shown(service.metrics, "countersign_database_wait_seconds_sum") or 0) > 0.1
    await service.stop()


async def test_http_requests_are_counted_by_the_template_of_their_path() -> None:
    async def thing(request: Request) -> Response:
        if request.path_params["thing_id"] == "0":
            raise RuntimeError("a defect")
        return Response("here", status_code=200)

    metrics = Metrics()
    app = Starlette(routes=[Route("/things/{thing_id}", thing)])
    server = HttpServer(MeasuredApp(app, metrics), "127.0.0.1", 0)
    await server.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
        for path in ("/things/1", "/things/2", "/things/0", "/secret/alice"):
            await http.get(path)
    await server.stop()
    of = {"route": "/things/{thing_id}", "method": "GET"}
    assert shown(metrics, "countersign_http_requests_total", **of, status="200") == 2
    assert shown(metrics, "countersign_http_requests_total", **of, status="500") == 1
    assert shown(metrics, "countersign_http_requests_total", route=OTHER, method="GET", status="404") == 1
    assert shown(metrics, "countersign_http_request_seconds_count", **of) == 3
    assert b"alice" not in metrics.render()


async def test_readiness_is_a_metric(stack: Any) -> None:
    service = Service("policy", ServiceSettings(**stack.settings("policy"), log_level="error"))
    assert shown(service.metrics, "countersign_ready") == 0
    await service.start()
    assert shown(service.metrics, "countersign_ready") == 1
    service.ready_check("desk", lambda: "on fire")
    assert shown(service.metrics, "countersign_ready") == 0
    assert shown(service.metrics, "countersign_service_info", service="policy") == 1
    await service.stop()


def test_a_label_that_others_choose_is_bounded() -> None:
    tools = Bounded(limit=2)
    assert [tools.of(name) for name in ("a", "b", "c", "a", "c")] == ["a", "b", OTHER, "a", OTHER]


def test_the_oldest_is_known_to_be_at_least_as_old_as_the_floor_stood_still() -> None:
    first = standing(None, floor=7, outstanding=3, at=100.0)
    assert first == Standing(7, 100.0)
    assert standing(first, floor=7, outstanding=9, at=160.0) == first, "the same message is the oldest"
    assert standing(first, floor=8, outstanding=2, at=160.0) == Standing(8, 160.0)
    assert standing(first, floor=9, outstanding=0, at=160.0) is None
