"""Who is calling: bearer credentials of agents and people, looked up by their SHA-256 in the registry's projections."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from countersign_chassis import Mirror
from countersign_contracts.access_token import looks_like_one
from countersign_contracts.errors import CountersignError, Refused, Unavailable
from countersign_contracts.fleet import AgentRecord, Credential, PersonRecord
from countersign_contracts.roles import able

from .access_tokens import AccessTokens


@dataclass(frozen=True, slots=True)
class AgentIdentity:
    """An agent, authenticated."""

    agent_id: str
    credential_id: str


@dataclass(frozen=True, slots=True)
class PersonIdentity:
    """A person, authenticated: by an access token of the login ``login_id``, or by their own token."""

    name: str
    roles: tuple[str, ...]
    permissions: frozenset[str]
    login_id: str | None = None

    @classmethod
    def of(cls, record: PersonRecord, login_id: str | None = None) -> PersonIdentity:
        """The person of that record, with what their roles allow now."""
        return cls(record.name, record.roles, record.permissions, login_id)

    def may(self, permission: str) -> bool:
        """Whether a role allows it."""
        return permission in self.permissions


Identity = AgentIdentity | PersonIdentity


def bearer(authorization: str | None) -> str:
    """The token of ``Authorization: Bearer``; raises `unauthenticated` saying what to send."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise CountersignError(
            "send `Authorization: Bearer <token>`; `countersign agents credentials <agent>` issues a token",
            code="unauthenticated",
        )
    return token.strip()


class Credentials:
    """Finds the holder of a token. Tokens are random, so a dictionary by hash leaks nothing by its timing."""

    def __init__(self, agents: Mirror[AgentRecord], people: Mirror[PersonRecord], access: AccessTokens) -> None:
        self._agents: dict[str, tuple[str, Credential]] = {}
        self._hashes: dict[str, set[str]] = {}
        self._people: dict[str, PersonRecord] = {}
        self._tokens: dict[str, str] = {}
        agents.subscribe(self._agent)
        people.subscribe(self._person)
        self._mirror = agents
        self._people_mirror = people
        self._access = access

    def _agent(self, _: str, record: AgentRecord) -> None:
        for old in self._hashes.pop(record.agent_id, set()):
            self._agents.pop(old, None)
        if record.status == "revoked":
            return
        for credential in record.credentials:
            if credential.kind == "http" and credential.sha256:
                self._agents[credential.sha256] = (record.agent_id, credential)
                self._hashes.setdefault(record.agent_id, set()).add(credential.sha256)

    def _person(self, key: str, record: PersonRecord) -> None:
        if old := self._tokens.pop(key, None):
            self._people.pop(old, None)
        if record.status == "active":
            self._people[record.token_sha256] = record
            self._tokens[key] = record.token_sha256

    def identify(self, authorization: str | None, at: datetime) -> Identity:
        """The holder of the ``Authorization: Bearer`` token; raises `unauthenticated` saying what to do.

        Raises :class:`Unavailable` for a token that is not known while the gateway is starting.
        """
        token = bearer(authorization)
        if looks_like_one(token):
            return PersonIdentity.of(*self._access.holder(token, at))
        digest = hashlib.sha256(token.encode()).hexdigest()
        if person := self._people.get(digest):
            return PersonIdentity.of(person)
        if found := self._agents.get(digest):
            agent_id, credential = found
            if credential.expires_at is not None and credential.expires_at <= at:
                raise CountersignError(
                    f"the credential {credential.credential_id} expired at {credential.expires_at:%Y-%m-%d %H:%M} UTC;"
                    f" `countersign agents credentials {agent_id}` issues a new one",
                    code="unauthenticated",
                )
            return AgentIdentity(agent_id, credential.credential_id)
        if not self._read():
            raise Unavailable("the gateway has not read the credentials yet; try again")
        raise CountersignError("the credential is not known, or was revoked", code="unauthenticated")

    def _read(self) -> bool:
        """Whether a token that is not found is unknown: until then it may be one that was not read yet.

        There is always an administrator; a bucket without people was wiped, and the registry is filling it again.
        """
        return self._mirror.loaded and self._people_mirror.loaded and bool(self._people_mirror.values())

    def knows_agent(self, agent_id: str) -> bool:
        """Whether the registry has such an agent."""
        return self._mirror.get(agent_id) is not None


def require_agent(identity: Identity) -> AgentIdentity:
    """The agent; raises :class:`Refused` for a person, who has no actions of their own."""
    if isinstance(identity, AgentIdentity):
        return identity
    raise Refused(f"{identity.name} is a person; only an agent's credential can ask for actions")


def require_person(identity: Identity, permission: str) -> PersonIdentity:
    """The person, if a role of theirs allows ``permission``; raises :class:`Refused` naming the roles that would."""
    if isinstance(identity, AgentIdentity):
        raise Refused(
            f"agent {identity.agent_id} may not do this; it takes a person's token with role {able(permission)}"
        )
    if not identity.may(permission):
        raise Refused(
            f"{identity.name} has {', '.join(identity.roles)}; this takes {able(permission)}, or another role that"
            f" allows `{permission}`"
        )
    return identity
