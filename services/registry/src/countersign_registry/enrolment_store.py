"""The registry's SQL for discovery tokens, who registered with them, and nonces."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from countersign_chassis import Connection, Database
from countersign_contracts.enrolment import DiscoveryToken, TokenGrant
from countersign_contracts.fleet import AgentRecord, Credential, Owner

from .admission import Holder

_ADD = """
INSERT INTO discovery_token (token_id, sha256, nkey, agent_type, owner_team, owner_oncall, profile, environments,
                             heartbeat_s, uses, created_at, created_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""
_LATEST = """
SELECT * FROM discovery_token WHERE $1::text IS NULL OR token_id < $1 ORDER BY token_id DESC LIMIT $2
"""
_LOCK = "SELECT * FROM discovery_token WHERE token_id = $1 FOR UPDATE"
# in one order, so that two batches never wait for one another
_LOCK_SOME = "SELECT * FROM discovery_token WHERE sha256 = ANY($1::text[]) ORDER BY token_id FOR UPDATE"
_REVOKE = "UPDATE discovery_token SET revoked_at = $2, revoked_by = $3 WHERE token_id = $1"

# Keys that are taken: by whom and with which token; or, without either, by somebody for whom the registry made them.
_TAKEN = """
SELECT k.nkey, r.token_id, r.agent_id
FROM unnest($1::text[]) AS k (nkey) LEFT JOIN registration r USING (nkey)
WHERE r.nkey IS NOT NULL OR EXISTS (SELECT FROM credential c WHERE c.nkey = k.nkey)
"""
# Those who register, in one statement since somebody waits: the agents, what they took for credentials, how often their
# (locked) tokens were used, and who registered.
_REGISTERED = """
WITH new AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS n (
        agent_id text, name text, owner_team text, owner_oncall text, profile text, environments text[], status text,
        revision int, heartbeat_s int, agent_type text, version text, nkey text, token_id text, credentials jsonb)
), agents AS (
    INSERT INTO agent (agent_id, name, owner_team, owner_oncall, profile, environments, status, revision, heartbeat_s,
                       agent_type, version, status_by, status_at, created_by, created_at)
    SELECT agent_id, name, owner_team, owner_oncall, profile, environments, status, revision, heartbeat_s,
           agent_type, version, 'token:' || token_id, $2, 'token:' || token_id, $2
    FROM new
), credentials AS (
    INSERT INTO credential (credential_id, agent_id, kind, sha256, nkey, issued_at, issued_by, expires_at)
    SELECT c.credential_id, new.agent_id, c.kind, c.sha256, c.nkey, $2, 'agent:' || new.agent_id, c.expires_at
    FROM new, jsonb_to_recordset(new.credentials) AS c (
        credential_id text, kind text, sha256 text, nkey text, expires_at timestamptz)
), used AS (
    UPDATE discovery_token t SET used = t.used + n.times
    FROM (SELECT token_id, count(*) AS times FROM new GROUP BY token_id) n
    WHERE t.token_id = n.token_id
)
INSERT INTO registration (nkey, token_id, agent_id, registered_at) SELECT nkey, token_id, agent_id, $2 FROM new
"""

# The credentials of keys that registered themselves; a void one is none.
_OF_KEYS = """
SELECT c.* FROM registration r JOIN credential c USING (nkey)
WHERE r.nkey = ANY($1::text[]) AND c.voided_at IS NULL
"""
# The HTTP credentials that agents took themselves, the latest of each kept: it may still be in use.
_OLDER_TOKENS = """
SELECT * FROM (
    SELECT c.*, row_number() OVER (PARTITION BY agent_id ORDER BY issued_at DESC, credential_id DESC) AS n
    FROM credential c
    WHERE agent_id = ANY($1::text[]) AND kind = 'http' AND issued_by = 'agent:' || agent_id AND voided_at IS NULL
) own WHERE n > 1
"""

_SPEND = "INSERT INTO spent_nonce (nonce, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_FORGET = "DELETE FROM spent_nonce WHERE expires_at < $1"


@dataclass(frozen=True, slots=True)
class Key:
    """The credential of an agent's own NATS key."""

    agent_id: str
    credential: Credential


class EnrolmentStore:
    """What takes a connection works in the caller's transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add_token(self, connection: Connection, token: DiscoveryToken, sha256: str, nkey: str) -> None:
        """Insert a token."""
        grant = token.grant
        await connection.execute(
            _ADD,
            token.token_id,
            sha256,
            nkey,
            grant.agent_type,
            grant.owner.team,
            grant.owner.oncall,
            grant.profile,
            list(grant.environments),
            grant.heartbeat_s,
            token.uses,
            token.created_at,
            token.created_by,
            token.expires_at,
        )

    async def tokens(self, after: str | None, limit: int) -> list[DiscoveryToken]:
        """The latest first, those older than ``after``."""
        return [_token(row) for row in await self._db.pool.fetch(_LATEST, after, limit)]

    async def lock_token(self, connection: Connection, token_id: str) -> DiscoveryToken | None:
        """One token, kept from changing until the transaction ends."""
        row = await connection.fetchrow(_LOCK, token_id)
        return None if row is None else _token(row)

    async def lock_by_secret(self, connection: Connection, hashes: Collection[str]) -> dict[str, DiscoveryToken]:
        """The tokens of those secrets that there are, kept from changing until the transaction ends."""
        return {row["sha256"]: _token(row) for row in await connection.fetch(_LOCK_SOME, list(hashes))}

    async def revoke(self, connection: Connection, token_id: str, by: str, at: datetime) -> None:
        """Nobody registers with it any more."""
        await connection.execute(_REVOKE, token_id, at, by)

    async def taken(self, connection: Connection, nkeys: Collection[str]) -> dict[str, Holder | None]:
        """Those keys that are taken: who registered with them; None where the registry made the key for somebody."""
        return {
            row["nkey"]: None if row["token_id"] is None else Holder(row["nkey"], row["token_id"], row["agent_id"])
            for row in await connection.fetch(_TAKEN, list(nkeys))
        }

    async def registered(self, connection: Connection, new: Sequence[tuple[Holder, AgentRecord]], at: datetime) -> None:
        """Insert these, who registered with tokens that are locked, and the credentials they took."""
        await connection.execute(_REGISTERED, orjson.dumps([_new(*each) for each in new]).decode(), at)

    async def keys(self, connection: Connection, nkeys: Collection[str]) -> dict[str, Key]:
        """The credentials of keys with which agents registered themselves, ended ones too, void ones not."""
        rows = await connection.fetch(_OF_KEYS, list(nkeys))
        return {row["nkey"]: Key(row["agent_id"], _credential(row)) for row in rows}

    async def older_tokens(self, connection: Connection, agent_ids: Collection[str]) -> dict[str, list[Credential]]:
        """What each of these agents took for HTTP before the last time."""
        found: dict[str, list[Credential]] = {}
        for row in await connection.fetch(_OLDER_TOKENS, list(agent_ids)):
            found.setdefault(row["agent_id"], []).append(_credential(row))
        return found

    async def spend(self, connection: Connection, nonce: str, ends: datetime, at: datetime) -> bool:
        """Whether the nonce counts: it does once."""
        await connection.execute(_FORGET, at)
        done: str = await connection.execute(_SPEND, nonce, ends)
        return done.endswith(" 1")


def _new(holder: Holder, record: AgentRecord) -> dict[str, Any]:
    said = record.model_dump(mode="json", exclude={"owner", "credentials"})
    return said | {
        "owner_team": record.owner.team,
        "owner_oncall": record.owner.oncall,
        "nkey": holder.nkey,
        "token_id": holder.token_id,
        "credentials": [each.model_dump(mode="json") for each in record.credentials],
    }


def _token(row: asyncpg.Record) -> DiscoveryToken:
    return DiscoveryToken(
        token_id=row["token_id"],
        grant=TokenGrant(
            agent_type=row["agent_type"],
            owner=Owner(team=row["owner_team"], oncall=row["owner_oncall"]),
            profile=row["profile"],
            environments=tuple(row["environments"]),
            heartbeat_s=row["heartbeat_s"],
        ),
        uses=row["uses"],
        used=row["used"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        revoked_by=row["revoked_by"],
    )


def _credential(row: asyncpg.Record) -> Credential:
    return Credential(
        credential_id=row["credential_id"],
        kind=row["kind"],
        sha256=row["sha256"],
        nkey=row["nkey"],
        expires_at=row["expires_at"],
    )
