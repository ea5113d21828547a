"""The agent as the registry knows it, and the events of stream ``FLEET``."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints

from .approval_rules import GroupName
from .event import Event, Spec
from .heartbeat import HEARTBEAT_S as HEARTBEAT_S
from .ids import AgentId, Env, ProfileName, prefixed
from .model import Frozen, Time
from .roles import EVERYTHING, allows

#: What people order.
AgentStatus = Literal["active", "paused", "revoked"]
#: What is observed: an agent says that it lives or stops, or is silent for too long.
AgentPhase = Literal["registered", "running", "stopped", "failed"]
#: What kind of agent it is, as its package says: agents of one type run the same program.
AgentType = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]


class Owner(Frozen):
    """Who answers for an agent."""

    team: str = Field(min_length=1, max_length=128)
    oncall: str | None = Field(default=None, max_length=256, description="person on call, e.g. an email address")


class AgentDescription(Frozen):
    """All that people say of an agent."""

    name: str = Field(min_length=1, max_length=128)
    owner: Owner
    profile: ProfileName
    environments: tuple[Env, ...] = Field(min_length=1)
    heartbeat_s: int = Field(default=HEARTBEAT_S, ge=1, le=3600, description="seconds between two heartbeats")

    def described(self) -> dict[str, Any]:
        """What is said, field by field."""
        return {name: getattr(self, name) for name in AgentDescription.model_fields}


class Credential(Frozen):
    """A credential's public part: an HTTP bearer token is kept as its SHA-256 alone, a NATS user as its public key."""

    credential_id: str
    kind: Literal["http", "nats"]
    sha256: str | None = None
    nkey: str | None = None
    expires_at: Time | None = None


class AgentRecord(Frozen):
    """What the registry projects into the key-value bucket ``agents``: all that others need to know of an agent."""

    agent_id: AgentId
    name: str
    owner: Owner
    profile: ProfileName
    environments: tuple[Env, ...]
    status: AgentStatus
    heartbeat_s: int = Field(default=HEARTBEAT_S, ge=1, le=3600, description="seconds between two heartbeats")
    credentials: tuple[Credential, ...] = ()
    agent_type: AgentType | None = Field(default=None, description="of an agent that registered itself")
    version: str | None = Field(default=None, max_length=64, description="that it registered with")
    revision: int = Field(ge=1)


class FleetEvent(Event):
    """An event about one agent; ``event`` makes its id unique where the same may happen again."""

    agent_id: AgentId
    event: str = Field(default_factory=lambda: prefixed("evt"))
    by: str
    at: Time

    def about(self) -> str:
        return self.agent_id

    def event_id(self) -> str:
        return f"{self.agent_id}.{self.spec.name}.{self.event}"


class AgentRegistered(FleetEvent):
    """An agent is known from now on."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.registered.{token}", ("registry",))
    agent: AgentRecord


class AgentChanged(FleetEvent):
    """An agent's name, owner, profile or environments changed."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.configured.{token}", ("registry",))
    before: AgentRecord
    agent: AgentRecord


class AgentStatusChanged(FleetEvent):
    """An agent was paused, resumed or revoked."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.status_changed.{token}", ("registry",))
    before: AgentStatus
    status: AgentStatus
    reason: str


class AgentPhaseChanged(FleetEvent):
    """What an agent is seen to do changed, and what shows it."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.phase_changed.{token}", ("registry",))
    before: AgentPhase
    phase: AgentPhase
    cause: str


class CredentialsIssued(FleetEvent):
    """An agent was given a credential; the secret part is in no event."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.credentials_issued.{token}", ("registry",))
    credentials: tuple[Credential, ...]


class CredentialsRevoked(FleetEvent):
    """Credentials of an agent are void from now on."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.credentials_revoked.{token}", ("registry",))
    credential_ids: tuple[str, ...]


#: One of the built-in roles, or one that is declared.
RoleName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]


class ChannelIdentity(Frozen):
    """Who a person is in a channel, as they confirmed it themselves."""

    channel: Literal["slack"]
    identity: str = Field(min_length=1, max_length=256, description="e.g. `T012/U345`: team and user in Slack")
    enrolled_at: Time


def person_key(name: str) -> str:
    """The key of a person in bucket ``people``: names may hold characters that keys may not."""
    return sha256(name.encode()).hexdigest()


class PersonRecord(Frozen):
    """A person (or automation) who may operate Countersign over HTTP and the CLI; bucket ``people``."""

    name: str
    roles: tuple[RoleName, ...]
    granted: tuple[str, ...] = Field(default=(), description="permissions by those roles that are not built in")
    token_sha256: str
    status: Literal["active", "removed"] = "active"
    groups: tuple[GroupName, ...] = ()
    channels: tuple[ChannelIdentity, ...] = ()
    totp: bool = Field(default=False, description="has a one-time code generator enrolled")
    revision: int = Field(ge=1)

    @property
    def key(self) -> str:
        """The bucket's key."""
        return person_key(self.name)

    @property
    def permissions(self) -> frozenset[str]:
        """All that the roles allow; a name that is no role allows nothing."""
        return frozenset(p for p in EVERYTHING if self.may(p))

    def may(self, permission: str) -> bool:
        """Whether a role allows it."""
        return permission in EVERYTHING and (permission in self.granted or allows(self.roles, permission))


class PersonChanged(Event):
    """A person was added, changed (roles, groups, token, channels) or removed."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.person_changed.{token}", ("registry",))
    person: str
    roles: tuple[str, ...]
    granted: tuple[str, ...] = ()
    status: Literal["active", "removed"]
    groups: tuple[GroupName, ...] = ()
    channels: tuple[ChannelIdentity, ...] = ()
    totp: bool = False
    revision: int = Field(default=0, ge=0, description="of the record in bucket `people`")
    by: str
    at: Time
    event: str = Field(default_factory=lambda: prefixed("evt"))

    def about(self) -> str:
        return self.person

    def token(self) -> str:
        return "people"

    def event_id(self) -> str:
        return f"person.{self.event}"
