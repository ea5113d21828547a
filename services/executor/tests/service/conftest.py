"""The executor on real servers, with the other services played by the test: policy grants, audit confirms, registry
projects agents, the gateway commands and hears the results."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest_asyncio
import yaml

from countersign_chassis import Bus, Delivery, Failpoints, Projector, Service
from countersign_chassis.consumer import EventConsumer
from countersign_chassis.logs import logger
from countersign_chassis.measured import ConsumerMetrics
from countersign_chassis.metrics import Metrics
from countersign_contracts.actions import ActionGranted
from countersign_contracts.catalogue import Document, Tool
from countersign_contracts.commands import (
    ChangePlan,
    CommitCatalogue,
    ConfirmOnRecord,
    ExecutionView,
    GetExecution,
    PrepareCatalogue,
    Receipt,
)
from countersign_contracts.errors import CountersignError
from countersign_contracts.event import Event
from countersign_contracts.ids import prefixed
from countersign_contracts.projection import AGENTS
from countersign_contracts.topology import consumer


@dataclass
class World:
    """One executor and everybody around it."""

    stack: Any
    downstream: Any
    make_action: Callable[..., Any]
    make_agent: Callable[..., Any]
    make_grant: Callable[..., ActionGranted]
    make_tool: Callable[..., Tool]
    executors: list[Service] = field(default_factory=list)
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    heard: list[Event] = field(default_factory=list)
    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    recorded: Callable[[tuple[str, ...]], Awaitable[tuple[str, ...]]] | None = None
    asked: list[tuple[str, ...]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    _repeats: int = 0

    async def open(self) -> None:
        self.policy: Bus = await self.stack.bus("policy")
        self.gateway: Bus = await self.stack.bus("gateway")
        self.audit: Bus = await self.stack.bus("audit")
        registry: Bus = await self.stack.bus("registry")
        self.agents = Projector(AGENTS, registry.connection, self.stack.key("registry"))
        await self.agents.put("bot", self.make_agent())
        await self.audit.answer(ConfirmOnRecord, self._confirm)
        self._changed = asyncio.Condition()
        self._consumers = []
        for name, bus in (
            ("gateway-finals", self.gateway),
            ("gateway-progress", self.gateway),
            ("audit-control", self.audit),
        ):
            self._consumers.append(
                EventConsumer(
                    consumer(name),
                    bus.connection,
                    bus,
                    self.stack.trust(),
                    self._hear,
                    ConsumerMetrics.of(Metrics()),
                    logger("test", "warning"),
                    verify=True,
                )
            )
        for each in self._consumers:
            await each.start()

    async def close(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
        for each in self._consumers:
            await each.stop(1)

    async def executor(self, failpoints: Failpoints | None = None, **settings: Any) -> Service:
        """Start an executor; stopped with the stack."""
        service: Service = await self.stack.service("executor", failpoints, **self.settings, **settings)
        self.executors.append(service)
        return service

    async def process(self, failpoint: str | None = None, **settings: Any) -> asyncio.subprocess.Process:
        """Start an executor as a process of its own, that kills itself with SIGKILL at ``failpoint``."""
        values = {**self.stack.settings("executor"), **self.settings, **settings}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("executor_process.py")),
            json.dumps(values, default=str),
            failpoint or "",
            stdout=asyncio.subprocess.PIPE,
        )
        self.processes.append(process)
        assert process.stdout is not None
        async with asyncio.timeout(20):
            assert await process.stdout.readline() == b"running\n"
        return process

    async def prepare(self, *tools: Tool) -> ChangePlan:
        """What declaring them would change, as `countersign apply --dry-run` asks."""
        plan: ChangePlan = await self.gateway.ask(
            PrepareCatalogue(change_id=prefixed("chg"), documents=self._documents(tools))
        )
        return plan

    async def apply(self, *tools: Tool) -> ChangePlan:
        """Declare tools as `countersign apply` does."""
        plan = await self.prepare(*tools)
        assert plan.errors == ()
        done: ChangePlan = await self.gateway.ask(
            CommitCatalogue(change_id=prefixed("chg"), base=plan.base, by="ada", documents=self._documents(tools))
        )
        return done

    def _documents(self, tools: tuple[Tool, ...]) -> tuple[Document, ...]:
        return tuple(
            Document(
                path=f"tools/{tool.name}.yaml",
                text=yaml.safe_dump(tool.model_dump(mode="json", by_alias=True, exclude_none=True)),
            )
            for tool in tools
        )

    def tool(self, **changes: Any) -> Tool:
        """The default tool, at the downstream."""
        http = {"url": self.downstream.url + "/items/{item}"} | changes.pop("http", {})
        return self.make_tool(http=http, **changes)

    def grant(self, **changes: Any) -> ActionGranted:
        """A grant of the default action."""
        return self.make_grant(self.stack.key("policy"), self.make_action(**changes))

    async def execute(self, grant: ActionGranted) -> Event:
        """Publish the grant; its final event."""
        await self.policy.publish(grant)
        return await self.final(grant)

    async def repeat(self, grant: ActionGranted) -> None:
        """Publish the grant (again) past the stream's deduplication, as after its window."""
        self._repeats += 1
        envelope = self.policy.seal(grant)
        await self.policy.publish_sealed(
            [(grant.nats_subject(), grant.spec.stream, envelope)], attempt=f"repeat-{self._repeats}"
        )

    def metric(self, name: str, **labels: str) -> float | None:
        """A metric of the first executor."""
        value: float | None = self.executors[0].metrics.registry.get_sample_value(name, labels)
        return value

    async def final(self, grant: ActionGranted, timeout_s: float = 10) -> Event:
        """The action's final event."""
        return await self.hear(
            lambda e: e.about() == grant.about() and e.spec.name in ("executed", "refused"), timeout_s
        )

    async def hear(self, wanted: Callable[[Event], bool], timeout_s: float = 10) -> Event:
        """The first event that is wanted, now or later."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: any(wanted(event) for event in self.heard))
        return next(event for event in self.heard if wanted(event))

    async def until(self, condition: Callable[[], bool], timeout_s: float = 10) -> None:
        """Wait for something that no event tells of."""
        async with asyncio.timeout(timeout_s):
            while True:
                if condition():
                    return
                await asyncio.sleep(0.01)

    async def claimed(self, grant: ActionGranted) -> None:
        """Wait until the action is claimed."""
        async with asyncio.timeout(10):
            while True:
                try:
                    if (await self.row(grant)).state == "started":
                        return
                except CountersignError:
                    await asyncio.sleep(0.01)

    async def row(self, grant: ActionGranted) -> ExecutionView:
        """The execution as the executor shows it."""
        view: ExecutionView = await self.gateway.ask(GetExecution(request_id=grant.about()))
        return view

    async def _confirm(self, command: ConfirmOnRecord) -> Receipt:
        self.asked.append(command.event_ids)
        known = await self.recorded(command.event_ids) if self.recorded else command.event_ids
        return Receipt(event_ids=known, head=1)

    async def _hear(self, batch: list[Delivery]) -> None:
        async with self._changed:
            for delivery in batch:
                self.heard.append(delivery.event)
                self.bodies.append((delivery.envelope.id, delivery.body))
            self._changed.notify_all()


@pytest_asyncio.fixture
async def world(
    stack: Any,
    downstream: Any,
    make_action: Any,
    make_agent: Any,
    make_grant: Any,
    make_tool: Any,
) -> AsyncIterator[World]:
    made = World(stack, downstream, make_action, make_agent, make_grant, make_tool)
    # short, so that no test waits long for another executor's death or backoff
    made.settings = {
        "owner_timeout_s": 0.6,
        "stop_lease_s": 0.4,
        "heartbeat_s": 0.1,
        "retry_first_pause_s": 0.01,
        "confirmation_patience_s": 0,
    }
    await made.open()
    yield made
    await made.close()
