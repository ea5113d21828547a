"""The registry's SQL for agents: their rows, credentials and last heartbeats; and the locks between registries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

import asyncpg
import orjson

from countersign_chassis import Connection, Database
from countersign_contracts.agent_commands import AgentDeleted
from countersign_contracts.fleet import AgentRecord, AgentStatusChanged, Credential, Owner
from countersign_contracts.model import now

from .lifecycle import Agent, Change, revoked_before

#: Clocks differ: a credential counts as live this long after it expired, and a void NATS user stays revoked.
CLOCK_TOLERANCE = timedelta(minutes=5)

# An agent with its live credentials, oldest first, and its last heartbeat. $1: what expired before is live no more.
_AGENT = """
SELECT a.*, h.last_seen, h.body AS heartbeat, p.phase, p.since AS phase_since, p.cause AS phase_cause,
       (SELECT json_agg(json_build_object('credential_id', c.credential_id, 'kind', c.kind, 'sha256', c.sha256,
                                          'nkey', c.nkey, 'expires_at', c.expires_at)
                        ORDER BY c.issued_at, c.kind, c.credential_id)
        FROM credential c
        WHERE c.agent_id = a.agent_id AND c.voided_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > $1)
       ) AS credentials
FROM agent a LEFT JOIN heartbeat h USING (agent_id) LEFT JOIN phase p USING (agent_id)
"""

_FIND = _AGENT + "WHERE a.agent_id = $2"
_NAMED = _AGENT + "WHERE a.agent_id = ANY($2::text[])"
_LOCK = "SELECT FROM agent WHERE agent_id = ANY($1::text[]) ORDER BY agent_id FOR UPDATE"
_AFTER = _AGENT + "WHERE a.agent_id > $2 ORDER BY a.agent_id LIMIT $3"
# Which agents are on the page is decided first, of the agents alone: whatever plan the server keeps for it, the rest is
# read for so many rows, not for every agent.
_CHOSEN = """
WITH chosen AS MATERIALIZED (
    SELECT a.agent_id FROM agent a {joined}
    WHERE a.agent_id > $2 AND a.deleted_at IS NULL AND ($4::text IS NULL OR a.status = $4)
      AND ($5::text IS NULL OR a.owner_team = $5) AND ($6::text IS NULL OR a.agent_type = $6) {having}
    ORDER BY a.agent_id LIMIT $3
)
"""
_OF_CHOSEN = _AGENT + "JOIN chosen USING (agent_id) ORDER BY a.agent_id"
_PAGE = _CHOSEN.format(joined="", having="") + _OF_CHOSEN
_PAGE_OF_PHASE = (
    _CHOSEN.format(joined="LEFT JOIN phase p USING (agent_id)", having="AND coalesce(p.phase, 'registered') = $7::text")
    + _OF_CHOSEN
)

_INSERT = """
INSERT INTO agent (agent_id, name, owner_team, owner_oncall, profile, environments, status, revision,
                   heartbeat_s, agent_type, version, status_by, status_at, created_by, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $12, $13)
ON CONFLICT DO NOTHING
"""

_UPDATE = """
UPDATE agent SET name = $2, owner_team = $3, owner_oncall = $4, profile = $5, environments = $6, status = $7,
                 revision = $8, heartbeat_s = $9, agent_type = $10, version = $11
WHERE agent_id = $1
"""

# Who set the status, when and why; only where it changes.
_STATUS = "UPDATE agent SET status_by = $2, status_at = $3, status_reason = $4 WHERE agent_id = $1"

# A deleted agent keeps its row.
_DELETE = "UPDATE agent SET deleted_by = $2, deleted_at = $3 WHERE agent_id = $1"

_ISSUE = """
INSERT INTO credential (credential_id, agent_id, kind, sha256, nkey, issued_at, issued_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""

# The same key goes on for longer: its JWTs of before end by themselves.
_RENEW = "UPDATE credential SET issued_at = $2, expires_at = $3 WHERE credential_id = $1"

_VOID = "UPDATE credential SET voided_at = $2, voided_by = $3 WHERE credential_id = ANY($1::text[])"

# NATS users that nats-server must refuse: void, and with a JWT that has not ended by itself.
_REVOKED = """
SELECT nkey, issued_at, voided_at FROM credential
WHERE kind = 'nats' AND voided_at IS NOT NULL AND (expires_at IS NULL OR expires_at > $1)
UNION ALL
SELECT nkey, created_at, revoked_at FROM discovery_token WHERE revoked_at IS NOT NULL AND expires_at > $1
UNION ALL
SELECT nkey, created_at, revoked_at FROM observer WHERE revoked_at IS NOT NULL AND expires_at > $1
ORDER BY nkey
"""

# One statement for all agents that were heard of since the last one; unknown ones are dropped, older beats too.
_BEATS = """
WITH beat AS (
    SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[]) AS u (agent_id, last_seen, body)
    WHERE EXISTS (SELECT FROM agent a WHERE a.agent_id = u.agent_id)
), written AS (
    INSERT INTO heartbeat (agent_id, last_seen, body) SELECT * FROM beat ORDER BY agent_id
    ON CONFLICT (agent_id) DO UPDATE SET last_seen = excluded.last_seen, body = excluded.body
    WHERE heartbeat.last_seen < excluded.last_seen
)
SELECT agent_id FROM beat
"""

_COUNTS = """
SELECT (SELECT json_object_agg(status, n) FROM (
            SELECT status, count(*) AS n FROM agent WHERE deleted_at IS NULL GROUP BY status) s) AS agents,
       (SELECT count(*) FROM outbox WHERE published_at IS NULL) AS outbox
"""


@dataclass(frozen=True, slots=True)
class Counts:
    """Agents by status, and events that wait in the outbox."""

    agents: dict[str, int]
    outbox: int


class Lock(IntEnum):
    """What only one registry does at a time."""

    OUTBOX = 1
    AGENTS = 2
    PEOPLE = 3
    ACCOUNT = 4
    DECLARE = 5
    ENROL = 6
    PACKAGES = 7
    LOGINS = 8
    TELEMETRY = 9
    ALERTS = 10


#: Advisory locks count for the whole database, so the registry's own have a first number of their own.
_LOCKS = 0x52454749


class Store:
    """Agents. What takes a connection works in the caller's transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A connection inside a transaction."""
        return self._db.transaction()

    @asynccontextmanager
    async def alone(self, lock: Lock) -> AsyncIterator[Connection]:
        """A connection that holds ``lock`` until it is given back (the session's end frees it, as does a crash)."""
        async with self._db.session() as connection:
            await connection.execute("SELECT pg_advisory_lock($1, $2)", _LOCKS, lock)
            yield connection

    async def within(self, connection: Connection, lock: Lock) -> None:
        """Take ``lock`` until the end of the connection's transaction."""
        await connection.execute("SELECT pg_advisory_xact_lock($1, $2)", _LOCKS, lock)

    async def within_at_once(self, connection: Connection, lock: Lock) -> bool:
        """Take ``lock`` until the end of the connection's transaction; false if another registry has it."""
        taken: bool = await connection.fetchval("SELECT pg_try_advisory_xact_lock($1, $2)", _LOCKS, lock)
        return taken

    async def find(self, agent_id: str, at: datetime) -> Agent | None:
        """One agent."""
        row = await self._db.pool.fetchrow(_FIND, at - CLOCK_TOLERANCE, agent_id)
        return None if row is None else _agent(row)

    async def lock(self, connection: Connection, agent_ids: Sequence[str], at: datetime) -> dict[str, Agent]:
        """Those agents of ``agent_ids`` that there are, kept from changing until the transaction ends."""
        await connection.execute(_LOCK, agent_ids)
        # a statement of its own: one that waited for the lock would still see the credentials of before
        return await self.present(connection, agent_ids, at)

    async def present(self, connection: Connection, agent_ids: Sequence[str], at: datetime) -> dict[str, Agent]:
        """Those agents of ``agent_ids`` that there are."""
        rows = await connection.fetch(_NAMED, at - CLOCK_TOLERANCE, agent_ids)
        return {row["agent_id"]: _agent(row) for row in rows}

    async def page(
        self,
        *,
        status: str | None,
        phase: str | None,
        team: str | None,
        agent_type: str | None,
        after: str | None,
        limit: int,
        at: datetime,
    ) -> list[asyncpg.Record]:
        """Rows of agents by id, those after ``after``, for :mod:`.listing`."""
        given = (at - CLOCK_TOLERANCE, after or "", limit, status, team, agent_type)
        if phase is None:
            return await self._db.pool.fetch(_PAGE, *given)
        return await self._db.pool.fetch(_PAGE_OF_PHASE, *given, phase)

    async def create(self, connection: Connection, change: Change, by: str, at: datetime) -> bool:
        """Insert a new agent; false if the id is taken."""
        done: str = await connection.execute(_INSERT, *_columns(change.record), by, at)
        return done.endswith(" 1")

    async def save(self, connection: Connection, change: Change, by: str, at: datetime) -> None:
        """Write what changed of a locked agent and its credentials."""
        await connection.execute(_UPDATE, *_columns(change.record))
        for event in change.events:
            if isinstance(event, AgentStatusChanged):
                await connection.execute(_STATUS, event.agent_id, event.by, event.at, event.reason)
            elif isinstance(event, AgentDeleted):
                await connection.execute(_DELETE, event.agent_id, event.by, event.at)
        if change.voided:
            await connection.execute(_VOID, [c.credential_id for c in change.voided], at, by)
        if change.renewed:
            await connection.executemany(_RENEW, [(c.credential_id, at, c.expires_at) for c in change.renewed])
        await connection.executemany(_ISSUE, _issued(change, by, at))

    async def revocations(self, connection: Connection, at: datetime) -> dict[str, int]:
        """Public key of each NATS user to refuse, and the second up to which its JWTs are."""
        rows = await connection.fetch(_REVOKED, at - CLOCK_TOLERANCE)
        return {row["nkey"]: revoked_before(row["issued_at"], row["voided_at"]) for row in rows}

    async def write_heartbeats(self, beats: Mapping[str, tuple[datetime, dict[str, Any]]]) -> set[str]:
        """Write what was heard since the last time, in one statement; returns the agents that there are."""
        rows = await self._db.pool.fetch(
            _BEATS,
            list(beats),
            [at for at, _ in beats.values()],
            [orjson.dumps(body).decode() for _, body in beats.values()],
        )
        return {row["agent_id"] for row in rows}

    async def counts(self) -> Counts:
        """What the metrics show."""
        row = await self._db.pool.fetchrow(_COUNTS)
        if row is None:
            return Counts({}, 0)
        return Counts(orjson.loads(row["agents"] or "{}"), row["outbox"])


class AgentRecords:
    """What others see of agents, for the bucket."""

    async def some(self, connection: Connection, names: Sequence[str]) -> dict[str, AgentRecord]:
        """Those of ``names`` that there are."""
        rows = await connection.fetch(_NAMED, now() - CLOCK_TOLERANCE, names)
        return {row["agent_id"]: _record(row) for row in rows}

    async def after(self, connection: Connection, name: str, limit: int) -> dict[str, AgentRecord]:
        """The next agents by id."""
        rows = await connection.fetch(_AFTER, now() - CLOCK_TOLERANCE, name, limit)
        return {row["agent_id"]: _record(row) for row in rows}


def _issued(change: Change, by: str, at: datetime) -> list[tuple[Any, ...]]:
    agent_id = change.record.agent_id
    return [(c.credential_id, agent_id, c.kind, c.sha256, c.nkey, at, by, c.expires_at) for c in change.issued]


def _columns(record: AgentRecord) -> tuple[Any, ...]:
    return (
        record.agent_id,
        record.name,
        record.owner.team,
        record.owner.oncall,
        record.profile,
        list(record.environments),
        record.status,
        record.revision,
        record.heartbeat_s,
        record.agent_type,
        record.version,
    )


def _record(row: asyncpg.Record) -> AgentRecord:
    return AgentRecord(
        agent_id=row["agent_id"],
        name=row["name"],
        owner=Owner(team=row["owner_team"], oncall=row["owner_oncall"]),
        profile=row["profile"],
        environments=tuple(row["environments"]),
        status=row["status"],
        heartbeat_s=row["heartbeat_s"],
        credentials=tuple(Credential.model_validate(c) for c in orjson.loads(row["credentials"] or "[]")),
        agent_type=row["agent_type"],
        version=row["version"],
        revision=row["revision"],
    )


def _agent(row: asyncpg.Record) -> Agent:
    return Agent(
        record=_record(row),
        created_at=row["created_at"],
        created_by=row["created_by"],
        status_at=row["status_at"],
        status_by=row["status_by"],
        status_reason=row["status_reason"],
        last_seen=row["last_seen"],
        heartbeat=None if row["heartbeat"] is None else orjson.loads(row["heartbeat"]),
        phase=row["phase"] or "registered",
        phase_since=row["phase_since"],
        phase_cause=row["phase_cause"],
        deleted_at=row["deleted_at"],
        deleted_by=row["deleted_by"],
    )
