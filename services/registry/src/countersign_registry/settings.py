"""The registry's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from countersign_chassis import ServiceSettings
from countersign_contracts.agent_config import ConfigValues
from countersign_contracts.enrolment import CREDENTIALS_S
from countersign_contracts.fleet import RoleName


class Settings(ServiceSettings):
    """What can be set for the registry, beyond what every service has."""

    nats_agents_creds_file: Path | None = Field(default=None, description="the registry's user in account AGENTS")
    nats_system_creds_file: Path | None = Field(
        default=None, description="its user in the system account, which may change account AGENTS and nothing else"
    )
    agents_account_file: Path = Field(
        default=Path(".countersign/nats/agents-account.jwt"), description="account AGENTS as bootstrap made it"
    )
    operator_signing_seed_file: Path = Field(
        default=Path(".countersign/keys/nats-operator-signing.seed"), description="signs account AGENTS anew"
    )
    agents_signing_seed_file: Path = Field(
        default=Path(".countersign/keys/nats-agents-signing.seed"), description="scoped key that signs agents' users"
    )
    bootstrap_signing_seed_file: Path = Field(
        default=Path(".countersign/keys/nats-agents-bootstrap-signing.seed"),
        description="scoped key that signs users who can register an agent and nothing else",
    )
    observer_signing_seed_file: Path = Field(
        default=Path(".countersign/keys/nats-agents-observer-signing.seed"),
        description="scoped key that signs users who can ask which agents run and nothing else",
    )
    agents_dirs: tuple[Path, ...] = Field(
        default=(), description="folders with packages of agents: in each a folder with `.env.discovery` for each"
    )
    agents_dirs_every_s: float = Field(default=2.0, gt=0, le=3600, description="how often these are looked into")
    credentials_lifetime_s: int = Field(
        default=CREDENTIALS_S, ge=2, le=86_400, description="of what an agent is given that registers itself"
    )
    come_back_within_s: int = Field(
        default=604_800, ge=60, description="how long after their end an agent may still renew its credentials"
    )
    admin_token_file: Path = Field(default=Path(".countersign/admin.token"), description="the token of person `admin`")
    access_token_s: int = Field(
        default=900, ge=1, le=3600, description="how long an access token of a person counts; then it is refreshed"
    )
    login_s: int = Field(
        default=43_200,
        ge=60,
        le=2_592_000,
        description="how long a login can be refreshed; then a proof is needed again",
    )
    oidc_issuer: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s?#]+$",
        description="OpenID provider that people log in with, as it names itself; https, unless on a private address",
    )
    oidc_client_id: str | None = Field(default=None, description="as which client; its redirect is loopback (RFC 8252)")
    oidc_client_secret_file: Path | None = Field(default=None, description="the client's secret, where it has one")
    oidc_scopes: tuple[str, ...] = Field(default=("openid", "email"), description="what is asked of the provider")
    oidc_person_claim: str = Field(
        default="email",
        min_length=1,
        description="claim that is a person's name to the letter; `email`: a verified one",
    )
    oidc_groups_claim: str | None = Field(default=None, description="claim with the provider's groups, e.g. `groups`")
    oidc_roles_of_groups: dict[str, tuple[RoleName, ...]] = Field(
        default={},
        description="group of the provider to roles: who is in one is added by logging in, with these roles. As JSON",
    )
    oidc_allow_private: bool = Field(default=False, description="the provider may be on a private or loopback address")
    codes_key_file: Path = Field(
        default=Path(".countersign/keys/registry-codes.key"),
        description="encrypts the secrets of one-time codes and marks enrolment codes; the same for every registry",
    )
    max_live_credentials: int = Field(default=16, ge=1, le=64, description="of one kind, for one agent")
    heartbeat_flush_s: float = Field(default=5.0, gt=0, le=300, description="how often last-seen times are written")
    projection_check_s: float = Field(default=60.0, gt=0, description="how often the buckets are checked for loss")
    account_check_s: float = Field(default=60.0, gt=0, description="how often account AGENTS is pushed again")
    account_push_timeout_s: float = Field(default=2.0, gt=0, le=10, description="for each answer of nats-server")
    alerts_every_s: float = Field(default=5.0, gt=0, le=60, description="how often alert rules are looked at")
    alerts_keep_days: int = Field(default=90, ge=1, le=3650, description="how long resolved alerts are kept")
    log_days: int = Field(default=7, ge=1, le=3650, description="how long agents' logs are kept, in whole days")
    metrics_days: int = Field(default=30, ge=1, le=3650, description="how long agents' metrics are kept")
    telemetry_bytes_per_s: int = Field(
        default=65_536,
        ge=8192,
        le=16_777_216,
        description="taken of one agent's logs, and as much of its metrics; a minute's worth at once",
    )
    agent_config: ConfigValues = Field(
        default=ConfigValues(),
        description="what this environment says of every agent's configuration, as JSON, below types and agents",
    )

    @model_validator(mode="after")
    def _whole_provider(self) -> Self:
        if (self.oidc_issuer is None) != (self.oidc_client_id is None):
            raise ValueError("oidc_issuer and oidc_client_id belong together: set both, or neither")
        if self.oidc_issuer is not None and self.oidc_issuer.startswith("http:") and not self.oidc_allow_private:
            raise ValueError("oidc_issuer: without https only with oidc_allow_private, on a private address")
        if self.oidc_roles_of_groups and self.oidc_groups_claim is None:
            raise ValueError("oidc_roles_of_groups needs oidc_groups_claim: which claim has the groups")
        return self
