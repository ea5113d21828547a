"""The settings that every service has. The environment is read here and in each service's subclass, nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """Read from the environment with prefix ``COUNTERSIGN_``; the defaults fit ``countersign up`` in this folder."""

    model_config = SettingsConfigDict(env_prefix="COUNTERSIGN_", extra="forbid", frozen=True)

    nats_url: str = Field(
        default="nats://127.0.0.1:4222",
        description="nats-server of both accounts; several of one cluster with commas between",
    )
    nats_ca_file: Path | None = Field(
        default=None,
        description="PEM of the authority whose certificate nats-server shows; with it every connection is TLS, and"
        " the server's name is checked",
    )
    nats_core_creds_file: Path | None = Field(default=None, description="this service's user in account CORE")
    postgres_dsn: str = Field(
        default="postgresql://127.0.0.1:5432/countersign",
        description="this service's role; its schema is the role's",
    )
    postgres_pool_max: int = Field(default=8, ge=1, le=64, description="connections at most")
    signing_key_file: Path = Field(default=Path(".countersign/keys/key.json"), description="this service's key")
    trust_file: Path = Field(default=Path(".countersign/trust.json"), description="which key may sign what")
    health_host: str = Field(default="127.0.0.1", description="where /health and /metrics listen")
    health_port: int = Field(default=0, ge=0, le=65535, description="0: any free port")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    otlp_url: str | None = Field(
        default=None,
        pattern=r"^(https?://.+)?$",
        description="where spans go (OTLP/HTTP, JSON), e.g. http://otel-collector:4318/v1/traces; none or empty: off",
    )
    trace_ratio: float = Field(
        default=0.01, ge=0, le=1, description="share of actions that are traced though their caller did not ask for it"
    )
    instance: str | None = Field(
        default=None, description="this replica's name in logs, on NATS and in PostgreSQL; default: the service's"
    )
    shutdown_grace_s: float = Field(default=5.0, gt=0, description="how long handlers may finish at stop")
