"""Keeps what agents are seen to do: from their heartbeats, and from the silence after them.

Every registry hears every heartbeat, in memory; only a change of phase is written, by whichever is first. A registry
that could not hear (it was away, frozen, or starts) lets as much time pass as an agent has before it calls anybody
silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, get_args

from prometheus_client import Counter, Gauge

from countersign_chassis import Database
from countersign_chassis.connection import NatsConnection
from countersign_contracts.fleet import AgentPhase, AgentPhaseChanged
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now

from .outbox import Outbox
from .phase_store import PhaseStore, Seen
from .phases import Sign, cause_of, is_silent, phases_after, sign_of

#: How often silences are looked for, and how late this loop may be before it counts as not having heard.
_TICK_S = 0.25
_LATE_S = 2.0
#: How often everything is read again: what other registries wrote, intervals that were changed.
_REREAD_S = 30.0
_BATCH = 500


class Presence:
    """Hears at once, writes in its own loop."""

    def __init__(
        self,
        db: Database,
        store: PhaseStore,
        outbox: Outbox,
        connection: NatsConnection,
        changed: Counter,
        agents: Gauge,
    ) -> None:
        self._db = db
        self._store = store
        self._outbox = outbox
        self._connection = connection
        self._changed = changed
        self._agents = agents
        self._seen: dict[str, Seen] = {}
        self._heard: dict[str, float] = {}
        self._said: dict[str, Sign] = {}
        self._listening_since = 0.0
        self._something = asyncio.Event()

    def hear(self, agent_id: str, heartbeat: Mapping[str, Any]) -> None:
        """An agent said something."""
        self._heard[agent_id] = asyncio.get_running_loop().time()
        sign = sign_of(heartbeat)
        seen = self._seen.get(agent_id)
        if seen is None or phases_after(seen.phase, sign):
            self._said[agent_id] = sign
            self._something.set()
        else:
            self._said.pop(agent_id, None)

    async def run(self) -> None:
        """Change phases, for ever."""
        loop = asyncio.get_running_loop()
        self._listening_since = looked = loop.time()
        read = -_REREAD_S
        while True:
            if loop.time() - read >= _REREAD_S:
                self._seen = await self._store.all()
                read = loop.time()
                self._heard = {id: at for id, at in self._heard.items() if id in self._seen}
                await self._count()
            if loop.time() - looked > _TICK_S + _LATE_S or not self._connection.client.is_connected:
                self._listening_since = loop.time()
            looked = loop.time()
            if await self._change():
                await self._count()
            try:
                async with asyncio.timeout(_TICK_S):
                    await self._something.wait()
            except TimeoutError:
                continue

    async def _change(self) -> bool:
        self._something.clear()
        signs = dict(islice(self._said.items(), _BATCH)) or dict.fromkeys(self._silent(), "silent")
        if not signs:
            return False
        changed = await self._write(signs)
        for agent_id, sign in signs.items():
            if self._said.get(agent_id) == sign:
                del self._said[agent_id]
        if self._said:
            self._something.set()
        return changed

    def _silent(self) -> list[str]:
        # over every agent, four times a second: no more for each than it takes
        at, since, heard = asyncio.get_running_loop().time(), self._listening_since, self._heard.get
        return list(
            islice(
                (
                    agent_id
                    for agent_id, seen in self._seen.items()
                    if seen.phase == "running" and is_silent(at - max(heard(agent_id, since), since), seen.heartbeat_s)
                ),
                _BATCH,
            )
        )

    def _silence_s(self, agent_id: str) -> float:
        since = max(self._heard.get(agent_id, self._listening_since), self._listening_since)
        return asyncio.get_running_loop().time() - since

    async def _write(self, signs: Mapping[str, Sign]) -> bool:
        at = now()
        async with self._db.transaction() as connection:
            seen = await self._store.lock(connection, list(signs))
            events = [
                event for agent_id, each in seen.items() for event in self._events(agent_id, each, signs[agent_id], at)
            ]
            last = {event.agent_id: event for event in events}
            if last:
                await self._store.save(
                    connection, [(event.agent_id, event.phase, at, event.cause) for event in last.values()]
                )
                await self._outbox.add(connection, events)
        for agent_id in signs.keys() - seen.keys():
            self._seen.pop(agent_id, None)
        for agent_id, each in seen.items():
            phase: AgentPhase = last[agent_id].phase if agent_id in last else each.phase
            self._seen[agent_id] = Seen(phase, each.status, each.heartbeat_s, each.last_seen)
        for event in events:
            self._changed.labels(event.phase).inc()
        if events:
            self._outbox.wake()
        return bool(events)

    def _events(self, agent_id: str, seen: Seen, sign: Sign, at: datetime) -> Sequence[AgentPhaseChanged]:
        silence_s = self._silence_s(agent_id)
        if sign == "silent":
            # another registry may have heard it, and its interval may be longer than was known here
            elsewhere = seen.last_seen is not None and not is_silent(
                max((at - seen.last_seen) / timedelta(seconds=1), 0), seen.heartbeat_s
            )
            if elsewhere or not is_silent(silence_s, seen.heartbeat_s):
                return ()
        cause = cause_of(sign, heartbeat_s=seen.heartbeat_s, silence_s=silence_s, status=seen.status)
        events: list[AgentPhaseChanged] = []
        before = seen.phase
        for after in phases_after(before, sign):
            phase: AgentPhase = "stopped" if after == "failed" and seen.status == "revoked" else after
            events.append(
                AgentPhaseChanged(
                    agent_id=agent_id,
                    event=prefixed("evt"),
                    by="registry",
                    at=at,
                    before=before,
                    phase=phase,
                    cause=cause,
                )
            )
            before = phase
        return events

    async def _count(self) -> None:
        counts = await self._store.counts()
        for phase in get_args(AgentPhase):
            self._agents.labels(phase).set(counts.get(phase, 0))
