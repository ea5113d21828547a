"""The registry's settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from countersign_chassis import ServiceSettings
from countersign_contracts.agent_config import ConfigValues
from countersign_contracts.enrolment import CREDENTIALS_S


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
