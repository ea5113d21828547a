"""The policy service on a real stack: the services around it are played, and events are heard as audit hears them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
import pytest_asyncio

from countersign_chassis import Bus, Delivery, Failpoints, Metrics, Projector, Service
from countersign_chassis.consumer import EventConsumer
from countersign_chassis.logs import logger
from countersign_chassis.measured import ConsumerMetrics
from countersign_contracts.actions import Action, ActionHeld, ActionRequested
from countersign_contracts.approvals import ApprovalResolved, Vote
from countersign_contracts.catalogue import AgentDeclaration, Document, Tool, ToolRecord
from countersign_contracts.command import Command
from countersign_contracts.commands import ChangePlan, CommitPolicies, PreparePolicies
from countersign_contracts.documents import read_documents
from countersign_contracts.event import Event
from countersign_contracts.fleet import AgentRecord
from countersign_contracts.ids import new_id
from countersign_contracts.model import now
from countersign_contracts.projection import AGENTS, STOPS, TOOLS
from countersign_contracts.topology import consumer
from countersign_harness.stack import Stack

E = TypeVar("E", bound=Event)

WORLD = Path(__file__).parents[3] / "tests" / "cases" / "world"


def make_action(**overrides: Any) -> Action:
    """A permitted read, unless told otherwise; with its own digest."""
    fields: dict[str, Any] = {
        "request_id": new_id(),
        "agent_id": "helper",
        "env": "dev",
        "tool": "list_tickets",
        "tool_version": 1,
        "args": {},
        "digest": "sha256:" + "0" * 64,
        "requested_at": now(),
    }
    action = Action(**(fields | overrides))
    return action if "digest" in overrides else action.model_copy(update={"digest": action.computed_digest()})


def update(session: str | None = "s-1", **overrides: Any) -> Action:
    """A ticket update, of which a session may make five."""
    defaults: dict[str, Any] = {"tool": "update_ticket", "args": {"ticket_id": 1, "status": "open"}}
    return make_action(session_id=session, **(defaults | overrides))


def vote(kind: str, digest: str, **changes: Any) -> Vote:
    """Ann's vote."""
    fields = {"voter": "ann", "vote": kind, "digest": digest, "channel": "cli", "voted_at": now()}
    return Vote(**(fields | changes))


class Rig:
    """A stack with the policy service's neighbours played by the test."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.events: list[Event] = []
        self.bodies: dict[str, list[bytes]] = {}
        self._heard = asyncio.Condition()
        self._listening: list[EventConsumer] = []

    async def open(self) -> None:
        """Neighbours up, world projected."""
        self.gateway = await self.stack.bus("gateway")
        self.approvals = await self.stack.bus("approvals")
        self.executor = await self.stack.bus("executor")
        registry = await self.stack.bus("registry")
        self.agents = Projector(AGENTS, registry.connection, self.stack.key("registry"))
        self.tools = Projector(TOOLS, self.executor.connection, self.stack.key("executor"))
        self.stops = Projector(STOPS, self.executor.connection, self.stack.key("executor"))
        await self._listen()
        parsed, errors = read_documents(self.world())
        assert errors == []
        for item in parsed:
            if isinstance(item.model, Tool):
                await self.put_tool(item.model)
            if isinstance(item.model, AgentDeclaration):
                await self.put_agent(item.model)

    async def close(self) -> None:
        """Stop listening."""
        for listening in self._listening:
            await listening.stop(1)

    def world(self) -> list[Document]:
        """The declarations of the policy cases."""
        return [Document(path=path.name, text=path.read_text()) for path in sorted(WORLD.iterdir())]

    async def put_tool(self, tool: Tool, version: int = 1) -> None:
        """Show a tool in the catalogue."""
        await self.tools.put(tool.name, ToolRecord(tool=tool, version=version, revision=version))

    async def put_agent(self, agent: AgentDeclaration, revision: int = 1, **changes: Any) -> None:
        """Show an agent."""
        fields = agent.model_dump(exclude={"kind"}) | {"status": "active", "revision": revision} | changes
        await self.agents.put(agent.agent_id, AgentRecord(**fields))

    async def service(self, failpoints: Failpoints | None = None, **overrides: Any) -> Service:
        """A policy service; several are replicas."""
        return await self.stack.service("policy", failpoints, **overrides)

    async def apply(self, documents: Iterable[Document] | None = None) -> ChangePlan:
        """Prepare and commit a change, as the gateway does."""
        given = tuple(self.world() if documents is None else documents)
        change_id = new_id()
        plan: ChangePlan = await self.gateway.ask(PreparePolicies(change_id=change_id, documents=given))
        assert plan.errors == ()
        commit = CommitPolicies(change_id=change_id, base=plan.base, by="ann", documents=given)
        done: ChangePlan = await self.gateway.ask(commit)
        return done

    async def request(self, *actions: Action, attempt: str = "") -> None:
        """Emit ``actions.requested``, as the gateway does; ``attempt``: as its sweeper does."""
        events = [ActionRequested(action=a, channel="http", credential_id="cred") for a in actions]
        sealed = [(e.nats_subject(), e.spec.stream, self.gateway.seal(e)) for e in events]
        await self.gateway.publish_sealed(sealed, attempt=attempt)

    async def until(self, query: str, *arguments: object) -> None:
        """Wait until the query answers true; nothing tells of a change in a table."""
        async with asyncio.timeout(5):
            while True:
                if await self.fetch(query, *arguments):
                    return
                await asyncio.sleep(0.02)

    async def hold(self, *actions: Action) -> list[ActionHeld]:
        """Request actions, which must be held."""
        await self.request(*actions)
        held = [await self.ended(action) for action in actions]
        assert all(isinstance(event, ActionHeld) for event in held)
        return [event for event in held if isinstance(event, ActionHeld)]

    async def resolve(self, held: ActionHeld, state: str = "approved", **changes: Any) -> None:
        """Emit ``approvals.resolved``, as approvals does."""
        kind = {"approved": "approve", "rejected": "reject"}.get(state)
        votes = [] if kind is None else [vote(kind, held.action.digest)]
        fields = {
            "approval_id": held.approval_id,
            "action": held.action.ref(),
            "state": state,
            "votes": votes,
            "resolved_at": now(),
        }
        await self.approvals.publish(ApprovalResolved(**(fields | changes)))

    async def ask(self, command: Command) -> Any:
        """Ask as the gateway."""
        return await self.gateway.ask(command)

    async def heard(self, event_id: str, times: int = 1, timeout_s: float = 10) -> Event:
        """The event of that id, once it was heard so many times."""
        try:
            async with asyncio.timeout(timeout_s), self._heard:
                await self._heard.wait_for(lambda: len(self.bodies.get(event_id, ())) >= times)
        except TimeoutError:
            ids = [e.event_id() for e in self.events]
            pytest.fail(f"{event_id} was heard {len(self.bodies.get(event_id, ()))} times; heard: {ids}")
        return next(e for e in self.events if e.event_id() == event_id)

    async def first(self, kind: type[E]) -> E:
        """The first event of a kind."""
        return (await self.all(kind, 1))[0]

    async def all(self, kind: type[E], count: int) -> list[E]:
        """The events of a kind, once there are so many."""
        async with asyncio.timeout(10), self._heard:
            await self._heard.wait_for(lambda: self.count(kind) >= count)
        return [event for event in self.events if isinstance(event, kind)]

    async def ended(self, action: Action) -> Event:
        """What policy says of an action first."""
        names = ("granted", "denied", "held")
        try:
            async with asyncio.timeout(10), self._heard:
                await self._heard.wait_for(lambda: any(f"{action.request_id}.{n}" in self.bodies for n in names))
        except TimeoutError:
            pytest.fail(f"nothing was heard of {action.request_id}")
        return next(e for e in self.events if e.event_id() in [f"{action.request_id}.{n}" for n in names])

    def count(self, kind: type[Event]) -> int:
        """How many different events of a kind were heard."""
        return len({e.event_id() for e in self.events if isinstance(e, kind)})

    async def fetch(self, query: str, *arguments: object) -> Any:
        """One value from the policy service's tables."""
        connection = await asyncpg.connect(self.stack.superuser_dsn())
        try:
            schema = await connection.fetchval("SELECT schemaname FROM pg_tables WHERE tablename = 'guardrail_usage'")
            await connection.execute(f'SET search_path TO "{schema}"')
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()

    async def _listen(self) -> None:
        audit: Bus = await self.stack.bus("audit")

        async def take(batch: list[Delivery]) -> None:
            async with self._heard:
                for delivery in batch:
                    self.events.append(delivery.event)
                    self.bodies.setdefault(delivery.envelope.id, []).append(delivery.envelope.body)
                self._heard.notify_all()

        metrics = ConsumerMetrics.of(Metrics())
        for name in ("audit-actions", "audit-control", "audit-deadletter"):
            listening = EventConsumer(
                consumer(name),
                audit.connection,
                audit,
                self.stack.trust(),
                take,
                metrics,
                logger("test", "error"),
                verify=True,
            )
            await listening.start()
            self._listening.append(listening)


@pytest_asyncio.fixture
async def rig(stack: Stack) -> AsyncIterator[Rig]:
    """A stack with the world of the policy cases, and nothing declared yet."""
    rig = Rig(stack)
    await rig.open()
    yield rig
    await rig.close()
