"""The gateway's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from countersign_chassis import ServiceSettings


class Settings(ServiceSettings):
    """Limits are per gateway process where nothing else is said."""

    http_host: str = Field(default="127.0.0.1", description="where the public API listens")
    http_port: int = Field(default=8001, ge=0, le=65535, description="0: any free port")
    http_cert_file: Path | None = Field(
        default=None, description="PEM certificate and its chain: the API is served over TLS; needs `http_key_file`"
    )
    http_key_file: Path | None = Field(default=None, description="its private key, PEM without a passphrase")
    http_cert_check_s: float = Field(
        default=10, gt=0, description="how often these files are looked at for a renewed certificate; SIGHUP: at once"
    )
    nats_agents_creds_file: Path | None = Field(default=None, description="the gateway's user in account AGENTS")
    seal_key_file: Path = Field(
        default=Path(".countersign/keys/executor-box.pub"),
        description="the executor's public key: sensitive arguments are sealed to it",
    )
    mark_key_file: Path = Field(
        default=Path(".countersign/keys/gateway-marks.key"),
        description="key of the marks of sensitive arguments and of requests' digests; the same for every gateway",
    )
    max_body_bytes: int = Field(default=262_144, ge=1024, description="largest HTTP body of an action")
    max_open: int = Field(
        default=1000, ge=1, description="actions under way at once, of everybody and of all gateways; beyond: 503"
    )
    max_open_per_agent: int = Field(default=500, ge=1, description="actions of one agent under way; beyond: 429")
    max_held_per_agent: int = Field(
        default=1000, ge=1, description="actions of one agent that wait for approval; beyond: 429"
    )
    come_back_max_s: int = Field(default=10, ge=1, description="longest `Retry-After` beyond these bounds")
    max_waiting: int = Field(default=4096, ge=1, description="actions that callers of this process wait for; then 503")
    max_followers: int = Field(
        default=256,
        ge=1,
        description="clients of this process that follow approvals, and as many that follow agents; then 503",
    )
    max_untold_events: int = Field(
        default=256,
        ge=1,
        description="events kept for a follower that reads slowly; beyond, it is told that some are lost",
    )
    max_untold_agent_news: int = Field(
        default=2048,
        ge=1,
        description="records and other news of agents kept for a follower that reads slowly, and at most 4 MiB of them",
    )
    events_keep_alive_s: float = Field(default=15, gt=0, description="longest silence towards a follower")
    max_wait_s: float = Field(default=300, gt=0, description="longest `Prefer: wait`")
    default_wait_s: float = Field(
        default=25, gt=0, description="wait of `Prefer: wait` without a number, and of a call"
    )
    first_control_layer_wait_s: float = Field(default=3600, gt=0, description="how long POST /action blocks")
    redrive_after_s: float = Field(default=10, gt=0, description="an accepted action that stands still is sent again")
    redrive_max_s: float = Field(default=300, gt=0, description="longest pause between two re-drives")
    on_record_after_s: float = Field(
        default=40,
        gt=0,
        description="an action whose end audit does not have so long after it is sent again; above the 30 s that a"
        " statement may take",
    )

    @model_validator(mode="after")
    def _certificate_with_its_key(self) -> Self:
        if (self.http_cert_file is None) != (self.http_key_file is None):
            raise ValueError("http_cert_file and http_key_file belong together: set both, or neither")
        return self
