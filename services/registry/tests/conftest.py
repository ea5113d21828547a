"""What the registry's tests share: orders as the gateway gives them, and looks at what the registry left behind."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import asyncpg
import orjson
import pytest_asyncio
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from countersign_chassis import Bus, Failpoints, Service
from countersign_chassis.natsauth import read_claims
from countersign_cli.bootstrap import apply_topology
from countersign_contracts import subjects
from countersign_contracts.commands import (
    AgentView,
    GetAgent,
    IssueCredentials,
    IssuedCredentials,
    RegisterAgent,
    SetAgentStatus,
)
from countersign_contracts.envelope import Envelope, open_event
from countersign_contracts.event import Event
from countersign_contracts.fleet import AgentRecord, Owner, PersonRecord, person_key
from countersign_contracts.projection import AGENTS, PEOPLE, open_projection
from countersign_harness.plain_client import PlainClient
from countersign_harness.stack import Stack


async def listening(service: Service) -> None:
    """Return when nats-server has the service's subscriptions."""
    await service.bus.connection.barrier()


class Agent:
    """An agent's own connection in plain nats-py, and when the server dropped it."""

    def __init__(self, agent_id: str) -> None:
        self.agent_id = agent_id
        self.client = PlainClient()
        self.closed = asyncio.Event()

    async def connect(self, url: str, creds: Path) -> None:
        async def closed() -> None:
            self.closed.set()

        async def quiet(_: Exception) -> None:
            return None

        await self.client.connect(
            url,
            user_credentials=str(creds),
            inbox_prefix=subjects.inbox(self.agent_id),
            allow_reconnect=False,
            connect_timeout=2,
            closed_cb=closed,
            error_cb=quiet,
        )

    async def beat(self, body: bytes = b"{}", subject: str | None = None) -> None:
        await self.client.publish(subject or subjects.agent(self.agent_id, "heartbeat"), body)
        await self.client.flush()

    async def dropped(self, seconds: float = 5) -> None:
        async with asyncio.timeout(seconds):
            await self.closed.wait()


#: Events that come by themselves, whatever a test orders.
_ASIDE = frozenset({"person_changed", "phase_changed"})


class Fleet:
    """Orders, agents' connections, and what is on the stream, in the buckets and in the tables."""

    def __init__(self, stack: Stack, bus: Bus, admin: Client) -> None:
        self.stack = stack
        self.bus = bus
        self._js = admin.jetstream()
        self._agents: list[Agent] = []
        self._running: Service | None = None

    # --- orders -------------------------------------------------------------------------------------

    async def register(self, agent_id: str = "alpha", **changes: Any) -> AgentView:
        fields: dict[str, Any] = {
            "agent_id": agent_id,
            "name": "Alpha",
            "owner": Owner(team="support", oncall="oncall@example.com"),
            "profile": "support",
            "environments": ("dev", "prod"),
            "by": "ann",
        }
        return cast(AgentView, await self.bus.ask(RegisterAgent(**(fields | changes))))

    async def issue(self, agent_id: str = "alpha", **changes: Any) -> IssuedCredentials:
        fields: dict[str, Any] = {"agent_id": agent_id, "by": "ann"}
        return cast(IssuedCredentials, await self.bus.ask(IssueCredentials(**(fields | changes))))

    async def set_status(self, status: Any, agent_id: str = "alpha", reason: str = "because") -> AgentView:
        order = SetAgentStatus(agent_id=agent_id, status=status, reason=reason, by="ann")
        return cast(AgentView, await self.bus.ask(order))

    async def get(self, agent_id: str = "alpha") -> AgentView:
        return cast(AgentView, await self.bus.ask(GetAgent(agent_id=agent_id)))

    # --- agents -------------------------------------------------------------------------------------

    async def connect(self, creds: str | None, agent_id: str = "alpha") -> Agent:
        """Connect as the agent; raises what nats-py raises if the server refuses."""
        assert creds is not None
        file = self.stack.layout.root / f"{agent_id}-{len(self._agents)}.creds"
        file.write_text(creds)
        agent = Agent(agent_id)
        self._agents.append(agent)
        await agent.connect(self.stack.nats_url, file)
        return agent

    # --- servers ------------------------------------------------------------------------------------

    async def run(self, failpoints: Failpoints | None = None, **settings: Any) -> Service:
        """A registry in place of the one that ran before."""
        if self._running is not None:
            await self._running.stop()
        self._running = await self.stack.service("registry", failpoints, **settings)
        await listening(self._running)
        return self._running

    async def restart_nats(self, lose: tuple[str, ...] = ()) -> None:
        """Kill nats-server and start it again on its port, without those of its folders."""
        port = self.stack.nats_url.rsplit(":", 1)[1]
        config = self.stack.layout.nats_config
        config.write_text(config.read_text().replace("port: -1", f"port: {port}"))
        await asyncio.to_thread(self.stack.nats.stop)
        for folder in lose:
            shutil.rmtree(self.stack.layout.nats / folder)
        await asyncio.to_thread(self.stack.nats.start)
        if "jetstream" in lose:
            await apply_topology(self.stack.nats_url, self.stack.layout)
        self._js = (await self.stack.client("bootstrap-core")).jetstream()

    async def lose_bucket(self, name: str) -> None:
        """Delete a bucket and make it again, empty, while everybody stays connected."""
        await self._js.delete_stream(f"KV_{name}")
        await apply_topology(self.stack.nats_url, self.stack.layout)

    async def another(self, **settings: Any) -> Service:
        """A registry beside the one that runs."""
        service = await self.stack.service("registry", **settings)
        await listening(service)
        return service

    async def close(self) -> None:
        for agent in self._agents:
            await agent.client.close()

    # --- looks --------------------------------------------------------------------------------------

    async def raw_events(self) -> list[tuple[str, Envelope]]:
        """Everything on stream FLEET: subject and envelope."""
        info = await self._js.stream_info("FLEET")
        found = []
        for seq in range(info.state.first_seq or 1, info.state.last_seq + 1):
            message = await self._js.get_msg("FLEET", seq)
            found.append((str(message.subject), Envelope.read(message.headers, message.data or b"")))
        return found

    async def events(self, count: int) -> list[Event]:
        """The first ``count`` events of stream FLEET about what people order of agents, verified; waits for them."""
        async with asyncio.timeout(10):
            while True:
                raw = [one for subject, one in await self.raw_events() if subject.split(".")[1] not in _ASIDE]
                if len(raw) >= count:
                    break
                await asyncio.sleep(0.02)
        assert len(raw) == count, [one.id for one in raw]
        return [open_event(one, self.stack.trust()) for one in raw]

    async def every_event(self) -> list[Event]:
        """Every event of stream FLEET by now, verified."""
        return [open_event(one, self.stack.trust()) for _, one in await self.raw_events()]

    async def shown(self, agent_id: str = "alpha") -> AgentRecord | None:
        """What bucket `agents` shows, verified."""
        try:
            message = await self._js.get_last_msg("KV_agents", f"$KV.agents.{agent_id}")
        except NotFoundError:
            return None
        return open_projection(AGENTS, agent_id, message.data or b"", self.stack.trust(), AgentRecord)

    async def shown_person(self, name: str) -> PersonRecord:
        """What bucket `people` shows, verified."""
        key = person_key(name)
        message = await self._js.get_last_msg("KV_people", f"$KV.people.{key}")
        return open_projection(PEOPLE, key, message.data or b"", self.stack.trust(), PersonRecord)

    async def account_in_use(self) -> str:
        """The JWT of account AGENTS that nats-server uses now."""
        account = read_claims(self.stack.layout.agents_account.read_text().strip())["sub"]
        system = await self.stack.client("registry-system")
        reply = await system.request(f"$SYS.REQ.ACCOUNT.{account}.INFO", b"", timeout=5)
        return str(orjson.loads(reply.data)["data"]["jwt"])

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """A connection of the superuser's to the registry's schema."""
        connection = await asyncpg.connect(self.stack.superuser_dsn())
        try:
            await connection.execute("SET search_path = registry")
            yield connection
        finally:
            await connection.close()

    async def sql(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """Rows of the registry's schema."""
        async with self.connection() as connection:
            return await connection.fetch(query, *args)

    async def waiting(self, count: int) -> bool:
        """Whether that many of the registry's connections wait for a lock."""
        found = await self.sql(
            "SELECT FROM pg_stat_activity WHERE usename = 'countersign_registry' AND wait_event_type = 'Lock'"
        )
        return len(found) == count

    async def until(self, holds: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
        """Wait until ``holds``."""
        async with asyncio.timeout(seconds):
            while not await holds():
                await asyncio.sleep(0.02)


@pytest_asyncio.fixture
async def fleet(stack: Stack) -> AsyncIterator[Fleet]:
    """A deployment without a registry running yet."""
    fleet = Fleet(stack, await stack.bus("gateway"), await stack.client("bootstrap-core"))
    yield fleet
    await fleet.close()


@pytest_asyncio.fixture
async def registry(fleet: Fleet) -> Service:
    """A running registry."""
    return await fleet.run(heartbeat_flush_s=0.2)
