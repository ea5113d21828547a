"""How agents come into the fleet: tokens, registration with one, renewed credentials; and orders for many at once."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints

from .command import Command, Rpc
from .event import Event, Spec
from .fleet import HEARTBEAT_S, AgentStatus, AgentType, Owner
from .ids import AgentId, Env, ProfileName
from .model import Frozen, Time
from .packages import AgentName, AgentVersion

#: A NATS user's public key, and what it signed, in base64 without the line feeds.
NKEY_PATTERN = r"^U[A-Z2-7]{55}$"
SIGNATURE_PATTERN = r"^[A-Za-z0-9_-]{86}$"
#: How long what an agent is given at its registration lasts, where the registry is not told otherwise.
CREDENTIALS_S = 3600

Nkey = Annotated[str, StringConstraints(pattern=NKEY_PATTERN)]
Signature = Annotated[str, StringConstraints(pattern=SIGNATURE_PATTERN)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
#: Base64url, and dots between its parts.
Nonce = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{16,256}$")]


# --- discovery tokens ---------------------------------------------------------------------------------


class TokenGrant(Frozen):
    """What whoever registers with a token becomes."""

    agent_type: AgentType
    owner: Owner
    profile: ProfileName
    environments: tuple[Env, ...] = Field(min_length=1)
    heartbeat_s: int = Field(default=HEARTBEAT_S, ge=1, le=3600, description="seconds between two heartbeats")


class DiscoveryToken(Frozen):
    """A token without its secret."""

    token_id: str
    grant: TokenGrant
    uses: int = Field(ge=1, description="how many agents may register with it")
    used: int = Field(default=0, ge=0)
    created_at: Time
    created_by: str
    expires_at: Time
    revoked_at: Time | None = None
    revoked_by: str | None = None


class IssuedDiscoveryToken(Frozen):
    """Shown once. ``nats_creds`` is the text of a NATS credentials file that can do nothing but register."""

    token: DiscoveryToken
    secret: str
    nats_creds: str


class DiscoveryTokens(Frozen):
    items: tuple[DiscoveryToken, ...]
    next: str | None = None


class CreateDiscoveryToken(Command):
    rpc: ClassVar[Rpc] = Rpc("registry", "create_token")
    reply: ClassVar[type[Frozen]] = IssuedDiscoveryToken
    grant: TokenGrant
    expires_in_s: int = Field(default=3600, ge=1, le=31_536_000)
    uses: int = Field(default=1, ge=1, le=10_000)
    by: str


class ListDiscoveryTokens(Command):
    """The latest first."""

    rpc: ClassVar[Rpc] = Rpc("registry", "tokens")
    reply: ClassVar[type[Frozen]] = DiscoveryTokens
    limit: int = Field(default=100, ge=1, le=500)
    after: str | None = Field(default=None, description="a token's id")


class RevokeDiscoveryToken(Command):
    """Nobody registers with it any more; who has stays registered. Again is harmless."""

    rpc: ClassVar[Rpc] = Rpc("registry", "revoke_token", timeout_s=10)
    reply: ClassVar[type[Frozen]] = DiscoveryToken
    token_id: str = Field(min_length=1, max_length=64)
    by: str


class TokenEvent(Event):
    """An event about a discovery token; it travels under the type it is for. No event holds the secret."""

    token_id: str
    agent_type: AgentType
    by: str
    at: Time

    def about(self) -> str:
        return self.token_id

    def token(self) -> str:
        return self.agent_type


class DiscoveryTokenIssued(TokenEvent):
    """From now on somebody may register with it."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.token_issued.{token}", ("registry",))
    grant: TokenGrant
    uses: int
    expires_at: Time


class DiscoveryTokenRevoked(TokenEvent):
    """From now on nobody may."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.token_revoked.{token}", ("registry",))


# --- registration by the agent itself -----------------------------------------------------------------


class Registration(Frozen):
    """What an agent sends to register, over HTTP and over NATS.

    With ``nkey`` it brings its own NATS key, and proves that it holds it: ``signature`` is the key's over
    :func:`registration_text`, in base64url without padding. Without, the registry makes a key and hands it out once.
    """

    agent_name: AgentName
    agent_version: AgentVersion
    agent_type: AgentType
    discovery_token: str = Field(min_length=1, max_length=128)
    nkey: Nkey | None = None
    signature: Signature | None = None


class Registered(Frozen):
    """Who the agent is from now on; the secrets are shown this once, and end at ``expires_at``.

    ``nats_jwt`` goes with the key that the agent brought; ``nats_creds`` holds the key that was made for it.
    """

    agent_id: AgentId
    heartbeat_s: int
    nats_jwt: str | None = None
    nats_creds: str | None = None
    http_token: str
    expires_at: Time
    configuration: dict[str, Any] | None = None
    again: bool = Field(default=False, description="it was registered before, with this token and this key")
    revision: int


class RegisterWithToken(Command):
    """An agent registers. The token travels as its SHA-256."""

    rpc: ClassVar[Rpc] = Rpc("registry", "register_with_token", timeout_s=15)
    reply: ClassVar[type[Frozen]] = Registered
    agent_name: AgentName
    agent_version: AgentVersion
    agent_type: AgentType
    token_sha256: Sha256
    nkey: Nkey | None = None
    signature: Signature | None = None

    @classmethod
    def of(cls, said: Registration) -> Self:
        """What an agent said, without the token itself."""
        return cls(
            agent_name=said.agent_name,
            agent_version=said.agent_version,
            agent_type=said.agent_type,
            token_sha256=token_sha256(said.discovery_token),
            nkey=said.nkey,
            signature=said.signature,
        )


def registration_text(agent_type: str, agent_name: str, agent_version: str, nkey: str, token_sha256: str) -> bytes:
    """What the agent's key signs at its registration: all that it says, so that nobody can say it with another key."""
    return "\n".join(["countersign-register-v1", agent_type, agent_name, agent_version, nkey, token_sha256]).encode()


def token_sha256(token: str) -> str:
    """What is kept of a token."""
    return sha256(token.encode()).hexdigest()


# --- renewing ------------------------------------------------------------------------------------------


class Challenge(Frozen):
    """What the agent's key is to sign, once, before it ends."""

    nonce: Nonce
    expires_at: Time


class ChallengeAgent(Command):
    """Answered for every id: who may renew shows when the nonce comes back signed."""

    rpc: ClassVar[Rpc] = Rpc("registry", "challenge")
    reply: ClassVar[type[Frozen]] = Challenge
    agent_id: AgentId


class Renewal(Frozen):
    """What an agent sends to renew: ``signature`` is its NATS key's over :func:`renewal_text`, in base64url."""

    nkey: Nkey
    nonce: Nonce
    signature: Signature
    kinds: tuple[Literal["http", "nats"], ...] = Field(default=("nats",), min_length=1)


class Renewed(Frozen):
    """Credentials that go on where the present ones end; the older ones last until they end by themselves."""

    agent_id: AgentId
    heartbeat_s: int
    nats_jwt: str | None = None
    http_token: str | None = None
    expires_at: Time
    revision: int


class RenewCredentials(Command):
    """An agent renews what it has, by the key it registered with."""

    rpc: ClassVar[Rpc] = Rpc("registry", "renew", timeout_s=10)
    reply: ClassVar[type[Frozen]] = Renewed
    agent_id: AgentId
    renewal: Renewal


def renewal_text(agent_id: str, nonce: str) -> bytes:
    """What the agent's key signs to renew."""
    return f"countersign-renew-v1\n{agent_id}\n{nonce}".encode()


# --- orders for many ------------------------------------------------------------------------------------


class Obeyed(Frozen):
    """One agent whose status changed, as its record is now."""

    agent_id: AgentId
    revision: int


class Ordered(Frozen):
    """What became of an order: each agent that changed has an event of its own."""

    status: AgentStatus
    changed: tuple[Obeyed, ...]
    unchanged: int = Field(ge=0, description="had that status before")
    revoked: int = Field(ge=0, description="were revoked for good, and stay so")
    more: bool = Field(default=False, description="there are more than one order takes: give it again")


class OrderAgents(Command):
    """Pause, resume or revoke every agent of a team, of a type, or of both."""

    rpc: ClassVar[Rpc] = Rpc("registry", "order", timeout_s=30)
    reply: ClassVar[type[Frozen]] = Ordered
    status: AgentStatus
    team: str | None = Field(default=None, min_length=1, max_length=128)
    agent_type: AgentType | None = None
    reason: str = Field(min_length=1, max_length=2000)
    by: str
