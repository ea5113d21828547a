"""What the executor's tests stand on: tools as declared, granted actions with real warrants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from countersign_chassis import Database
from countersign_contracts import warrant
from countersign_contracts.actions import Action, ActionGranted, Decision, Reason
from countersign_contracts.canonical import action_digest
from countersign_contracts.catalogue import Tool, ToolRecord
from countersign_contracts.commands import ChangePlan
from countersign_contracts.fleet import AgentRecord, Owner
from countersign_contracts.ids import new_id
from countersign_contracts.model import now
from countersign_contracts.topology import emits
from countersign_executor.catalogue_store import CatalogueStore
from countersign_harness.stack import SUPERUSER_PASSWORD
from countersign_ledger import SigningKey, TrustBundle

MakeTool = Callable[..., Tool]
MakeAction = Callable[..., Action]
MakeGrant = Callable[..., ActionGranted]


def tool(**changes: Any) -> Tool:
    """A write tool of one argument in each place; ``http`` is merged, everything else replaced."""
    http = {
        "method": "POST",
        "url": "http://127.0.0.1:9/items/{item}",
        "path": ["item"],
        "query": ["verbose"],
        "body": ["note"],
        "allow_private": True,
        "timeout_s": 2,
    }
    value = {
        "name": "change_item",
        "effect": "write",
        "arguments": {
            "type": "object",
            "additionalProperties": False,
            "required": ["item"],
            "properties": {
                "item": {"type": ["string", "integer"]},
                "verbose": {"type": "boolean"},
                "note": {"type": "string"},
            },
        },
    }
    return Tool.model_validate({**value, **changes, "http": {**http, **changes.get("http", {})}})


def action(**changes: Any) -> Action:
    """An action that the default tool can carry out, with its right digest."""
    values: dict[str, Any] = {
        "request_id": new_id(),
        "agent_id": "bot",
        "principal_chain": ("person:ada",),
        "session_id": "run-1",
        "env": "prod",
        "tool": "change_item",
        "tool_version": 1,
        "args": {"item": "7", "note": "hello"},
        "requested_at": now(),
        **changes,
    }
    values.setdefault(
        "digest",
        action_digest(
            agent=values["agent_id"],
            principal_chain=values["principal_chain"],
            session=values["session_id"],
            env=values["env"],
            tool=values["tool"],
            tool_version=values["tool_version"],
            args=values["args"],
        ),
    )
    return Action(**values)


def grant(key: SigningKey, of: Action, *, at: datetime | None = None, lifetime_s: float = 60) -> ActionGranted:
    """The grant of an action, its warrant signed by ``key``."""
    at = at or now()
    return ActionGranted(
        action=of,
        decision=Decision(
            outcome="allow",
            reasons=(Reason(code="policy", message="permitted"),),
            policy_version="sha256:" + "0" * 64,
            profile="writer",
            decided_at=at,
        ),
        warrant=warrant.issue(
            of,
            policy_version="sha256:" + "0" * 64,
            approval_id=None,
            at=at,
            lifetime=timedelta(seconds=lifetime_s),
            key=key,
        ),
    )


def agent(**changes: Any) -> AgentRecord:
    """An active agent."""
    values: dict[str, Any] = {
        "agent_id": "bot",
        "name": "Bot",
        "owner": Owner(team="support"),
        "profile": "writer",
        "environments": ("prod",),
        "status": "active",
        "revision": 1,
    }
    return AgentRecord(**(values | changes))


@pytest.fixture(scope="session")
def make_tool() -> MakeTool:
    return tool


@pytest.fixture(scope="session")
def make_action() -> MakeAction:
    return action


@pytest.fixture(scope="session")
def make_agent() -> Callable[..., AgentRecord]:
    return agent


@pytest.fixture(scope="session")
def make_grant() -> MakeGrant:
    return grant


@pytest.fixture(scope="session")
def record() -> ToolRecord:
    return ToolRecord(tool=tool(), version=1, revision=1)


@pytest.fixture(scope="session")
def policy_key() -> SigningKey:
    return SigningKey.generate("policy")


@pytest.fixture(scope="session")
def trust(policy_key: SigningKey) -> TrustBundle:
    return TrustBundle.of("test", [policy_key.trusted(emits("policy"))])


@pytest.fixture(scope="session")
def at() -> datetime:
    return datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@dataclass
class Request:
    """A request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


async def ok(_: Request, writer: asyncio.StreamWriter) -> None:
    """200 and a small JSON body."""
    writer.write(http(200, b'{"done":true}'))


def http(status: int, body: bytes = b"", headers: str = "", kind: str = "application/json") -> bytes:
    """An HTTP/1.1 answer."""
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


@dataclass
class Downstream:
    """A business system that behaves as badly as ``answer`` says; it keeps what it was asked."""

    answer: Answer = ok
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    answering: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**24)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().rstrip("\r\n").split("\r\n")
                method, target, _ = first.split(" ")
                headers = {n.lower(): v for n, v in (line.split(": ", 1) for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                request = Request(method, target, headers, body)
                self.requests.append(request)
                self.answering += 1
                try:
                    await self.answer(request, writer)
                    await writer.drain()
                finally:
                    self.answering -= 1
                if writer.is_closing():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


@pytest_asyncio.fixture
async def downstream() -> AsyncIterator[Downstream]:
    server = Downstream()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(name="http", scope="session")
def _http() -> Callable[..., bytes]:
    return http


@pytest_asyncio.fixture
async def db(postgres: Any) -> AsyncIterator[Database]:
    """A database of its own with the executor's tables and one tool at version 1."""
    admin = await asyncpg.connect(postgres.dsn("postgres", SUPERUSER_PASSWORD, "postgres"))
    await admin.execute("DROP DATABASE IF EXISTS claims WITH (FORCE)")
    await admin.execute("CREATE DATABASE claims")
    database = Database(postgres.dsn("postgres", SUPERUSER_PASSWORD, "claims"), pool_max=8, name="executor")
    await database.open()
    await database.migrate("countersign_executor")
    store = CatalogueStore(database)
    async with store.transaction() as connection:
        record = ToolRecord(tool=tool(), version=1, revision=1)
        await store.write(connection, "chg_1", ChangePlan(base="0"), [record])
    yield database
    await database.close()
    await admin.close()
