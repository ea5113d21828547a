"""Agents' heartbeats: heard over plain NATS, kept in memory, and written now and then in one statement.

Whose heartbeat it is says the subject: nats-server lets an agent publish under its own id alone.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import asyncpg
from nats.aio.msg import Msg
from prometheus_client import Counter

from countersign_chassis.connection import NatsConnection
from countersign_contracts import subjects
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now

from .heartbeat import read
from .presence import Presence
from .store import Store

Beat = tuple[datetime, dict[str, Any]]


class Heartbeats:
    """What agents said last. Every registry hears all of them; a write never replaces a later beat."""

    def __init__(
        self,
        store: Store,
        connection: NatsConnection,
        presence: Presence,
        flush_s: float,
        received: Counter,
        refused: Counter,
        log: Any,
    ) -> None:
        self._store = store
        self._connection = connection
        self._presence = presence
        self._flush_s = flush_s
        self._received = received
        self._refused = refused
        self._log = log
        self._latest: dict[str, Beat] = {}
        self._unwritten: dict[str, Beat] = {}

    def latest(self, agent_id: str) -> Beat | None:
        """When the agent was last heard of, and what it said, as far as this process heard it."""
        return self._latest.get(agent_id)

    async def start(self) -> None:
        """Listen."""
        await self._connection.client.subscribe(subjects.agent("*", "heartbeat"), cb=self._hear)

    async def run(self) -> None:
        """Write what was heard, every few seconds, for ever."""
        while True:
            await asyncio.sleep(self._flush_s)
            await self.flush()

    async def stop(self) -> None:
        """Write the rest, if the database is still there: a lost last-seen time keeps nothing from stopping."""
        try:
            await self.flush()
        except (
            OSError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            CountersignError,
        ) as error:
            self._log.warning("last-seen times not written", error=str(error) or type(error).__name__)

    async def flush(self) -> None:
        """Write what was heard since the last time."""
        if not self._unwritten:
            return
        beats, self._unwritten = self._unwritten, {}
        try:
            known = await self._store.write_heartbeats(beats)
        except BaseException:
            self._unwritten = beats | self._unwritten
            raise
        for agent_id in beats.keys() - known:
            self._latest.pop(agent_id, None)

    async def _hear(self, msg: Msg) -> None:
        try:
            said = read(msg.data)
        except CountersignError as error:
            self._refused.labels(error.code).inc()
            self._log.debug("heartbeat refused", subject=msg.subject, reason=error.detail)
            return
        agent_id = subjects.agent_of(msg.subject)
        self._latest[agent_id] = self._unwritten[agent_id] = (now(), said)
        self._presence.hear(agent_id, said)
        self._received.inc()
