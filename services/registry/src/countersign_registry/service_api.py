"""Answers the NATS service API (ADR-32) in account AGENTS, for every agent that is seen to run.

The registry answers, not the agents: they need no further permission, cannot be asked by one another, and none can
pretend to be another. One question at a time, and its answers in portions: ten thousand neither hold up heartbeats nor
run over whoever asked.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Any

import asyncpg
import nats.errors
import orjson
from nats.aio.msg import Msg

from countersign_chassis import Database
from countersign_chassis.connection import NatsConnection
from countersign_chassis.outages import OUTAGES
from countersign_contracts import subjects
from countersign_contracts.observation import VERBS, asked

from .discoverable import Asked, Running, answer, read_asked
from .heartbeats import Heartbeats

#: Clients take the list for whole once nothing has come for 300 ms: the pause between portions is far below that.
_PORTION = 200
_PAUSE_S = 0.01
#: Questions that wait for the one before; beyond, they are dropped, as NATS may drop any.
_MOST_WAITING = 16
_LOST: tuple[type[Exception], ...] = (*OUTAGES, nats.errors.Error)

_RUNNING = """
SELECT a.agent_id, a.name, a.agent_type, a.version, a.owner_team, a.environments, a.status, p.since,
       h.last_seen, h.body
FROM agent a JOIN phase p USING (agent_id) LEFT JOIN heartbeat h USING (agent_id)
WHERE p.phase = 'running' AND a.status <> 'revoked' AND a.agent_id > $1 AND ($2::text IS NULL OR a.agent_id = $2)
ORDER BY a.agent_id LIMIT $3
"""


class ServiceApi:
    """Every registry listens; one of them answers each question."""

    def __init__(self, db: Database, connection: NatsConnection, heartbeats: Heartbeats, log: Any) -> None:
        self._db = db
        self._connection = connection
        self._heartbeats = heartbeats
        self._log = log
        self._questions: asyncio.Queue[tuple[Asked, str]] = asyncio.Queue(_MOST_WAITING)

    async def start(self) -> None:
        """Listen."""
        for verb in VERBS:
            for subject in asked(verb):
                await self._connection.client.listen(subject, self._take, queue="registry")

    async def run(self) -> None:
        """Answer, for ever."""
        while True:
            question, reply = await self._questions.get()
            try:
                await self._answer(question, reply)
            except _LOST as error:
                self._log.warning("a question about services is not answered to its end", error=repr(error))

    def _take(self, msg: Msg) -> None:
        question = read_asked(msg.subject)
        # whoever asks may name any subject of its account as reply: only an observer's inbox is answered
        if question is None or not msg.reply.startswith(subjects.observer_inbox("")):
            self._log.info("question about services dropped", subject=msg.subject)
            return
        try:
            self._questions.put_nowait((question, msg.reply))
        except asyncio.QueueFull:
            self._log.warning("question about services dropped: too many at once", subject=msg.subject)

    async def _answer(self, question: Asked, reply: str) -> None:
        client, last = self._connection.client, ""
        while True:
            rows = await self._db.pool.fetch(_RUNNING, last, question.agent_id, _PORTION)
            for agent in map(self._running, rows):
                if question.means(agent):
                    client.send(reply, answer(question.verb, agent))
            if len(rows) < _PORTION:
                return
            last = rows[-1]["agent_id"]
            await client.flush()
            await asyncio.sleep(_PAUSE_S)

    def _running(self, row: asyncpg.Record) -> Running:
        agent = Running(
            agent_id=row["agent_id"],
            name=row["name"],
            agent_type=row["agent_type"],
            version=row["version"],
            team=row["owner_team"],
            environments=tuple(row["environments"]),
            status=row["status"],
            since=row["since"],
            last_seen=row["last_seen"],
            heartbeat={} if row["body"] is None else orjson.loads(row["body"]),
        )
        heard: tuple[datetime, dict[str, Any]] | None = self._heartbeats.latest(agent.agent_id)
        return agent if heard is None else replace(agent, last_seen=heard[0], heartbeat=heard[1])
