"""The published documents as they lie in the repository, and one deployment for all that is asked of nats-server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from nats.aio.client import Client

from countersign_cli.embedded.postgres import EmbeddedPostgres
from countersign_contracts import subjects
from countersign_harness.plain_client import PlainClient
from countersign_harness.stack import Stack
from countersign_registry.nats_users import AgentsAccount
from countersign_registry.settings import Settings as RegistrySettings
from workspace import ROOT

REFERENCE = ROOT / "docs" / "reference"


def references(value: Any) -> Iterator[str]:
    """Whatever a document refers to, anywhere in it."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


@pytest.fixture(scope="session")
def schemas() -> dict[str, dict[str, Any]]:
    """Every published JSON Schema, by its file's name without `.json`."""
    return {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(REFERENCE.glob("schemas/*.json"))}


@dataclass
class Line:
    """A connection as one user, and what the server refused of it."""

    client: Client
    refusals: list[str] = field(default_factory=list)

    async def refused_to_say(self, subjects: Iterable[str], **publish: Any) -> set[str]:
        """Publish on each subject; those that the server did not let through."""
        asked = list(subjects)
        self.refusals.clear()
        for subject in asked:
            await self.client.publish(subject, **publish)
        return await self._refused(asked, "publish to")

    async def refused_to_hear(self, subjects: Iterable[str], queue: str = "") -> set[str]:
        """Subscribe to each subject; those that the server did not allow."""
        asked = list(subjects)
        self.refusals.clear()
        made = [await self.client.subscribe(subject, queue=queue) for subject in asked]
        refused = await self._refused(asked, "subscription to")
        for subject, subscription in zip(asked, made, strict=True):
            if subject not in refused:
                await subscription.unsubscribe()
        return refused

    async def closed(self) -> None:
        """Return once the server has ended the connection."""
        async with asyncio.timeout(5):
            while not self.client.is_closed:
                await asyncio.sleep(0.01)

    async def _refused(self, asked: list[str], what: str) -> set[str]:
        await self.client.flush()
        told = "\n".join(self.refusals)
        return {subject for subject in asked if f'permissions violation for {what} "{subject.lower()}"' in told}


class Deployment:
    """nats-server with the product's own accounts, users, streams and consumers, and nobody connected."""

    def __init__(self, stack: Stack, closing: AsyncExitStack) -> None:
        self.stack = stack
        self._closing = closing
        self._lines: dict[str, Line] = {}
        self._agents = AgentsAccount.of(RegistrySettings(**stack.settings("registry")))

    async def line(self, user: str) -> Line:
        """The one line of a user that bootstrap made, e.g. `policy-core`."""
        if user not in self._lines:
            name = user.rpartition("-")[0]
            self._lines[user] = await self._connect(self.stack.layout.creds(user), name)
        return self._lines[user]

    async def agent(self, agent_id: str) -> Line:
        """A new line of an agent, with credentials as the registry makes them."""
        _, creds = self._agents.new_user(agent_id, datetime.now(UTC), None)
        file = self.stack.layout.root / f"{agent_id}.creds"
        file.write_text(creds)
        return await self._connect(file, agent_id)

    async def api(self, account: str, verb: str, body: Any = None) -> dict[str, Any]:
        """A JetStream call by bootstrap, who administers the account; the server's answer."""
        admin = await self.line(f"bootstrap-{account.lower()}")
        request = b"" if body is None else json.dumps(body).encode()
        answer: dict[str, Any] = json.loads((await admin.client.request(f"$JS.API.{verb}", request, timeout=5)).data)
        return answer

    async def messages(self, account: str, stream: str) -> int:
        """How many messages a stream holds."""
        return int((await self.api(account, f"STREAM.INFO.{stream}"))["state"]["messages"])

    async def _connect(self, creds: Path, name: str) -> Line:
        refusals: list[str] = []

        async def told(error: Exception) -> None:
            refusals.append(str(error))

        client = await PlainClient.connected(
            self.stack.nats_url,
            user_credentials=str(creds),
            inbox_prefix=subjects.inbox(name),
            allow_reconnect=False,
            error_cb=told,
        )
        self._closing.push_async_callback(client.close)
        return Line(client, refusals)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment(tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres) -> AsyncIterator[Deployment]:
    """One for all tests of a module: they ask, and leave it as it was."""
    async with Stack(tmp_path_factory.mktemp("contract") / "data", postgres) as stack, AsyncExitStack() as closing:
        async with asyncio.timeout(30):
            await stack.start()
        yield Deployment(stack, closing)
