"""The executor's settings: every bound on its calls, and where its secrets are."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from countersign_chassis import ServiceSettings


class Settings(ServiceSettings):
    """Read from the environment with prefix ``COUNTERSIGN_``."""

    secrets_file: Path | None = Field(
        default=None, description="file of NAME=value lines (mode 0600), or a folder with one file a secret"
    )
    open_key_file: Path = Field(
        default=Path(".countersign/keys/executor-box.key"),
        description="private keys that open sensitive arguments, one a line, the newest first; the same for every"
        " executor, and nobody else's",
    )
    max_concurrent_calls: int = Field(default=256, ge=1, description="calls under way at once, all hosts together")
    max_calls_per_host: int = Field(default=128, ge=1, description="calls under way at once to one host")
    max_grants_in_hand: int = Field(
        default=512, ge=1, description="granted actions taken on at once, those that wait for their call included"
    )
    confirmation_patience_s: float = Field(
        default=0.25, ge=0, description="audit tells when a grant is on record; it is asked if it did not for so long"
    )
    connect_timeout_s: float = Field(default=5.0, gt=0, description="to reach a downstream, within the tool's timeout")
    keepalive_s: float = Field(
        default=4.0,
        ge=0,
        description="how long an idle connection is kept; uvicorn and Node close theirs after 5 s",
    )
    dns_ttl_s: int = Field(default=10, ge=0, description="how long a checked address of a host is used again")
    retry_first_pause_s: float = Field(
        default=0.2, gt=0, description="pause before the first retry; doubles from there"
    )
    retry_max_pause_s: float = Field(default=5.0, gt=0, description="longest pause between tries")
    retry_after_max_s: float = Field(default=15.0, ge=0, description="longest Retry-After that is waited for")
    retry_budget_s: float = Field(default=60.0, gt=0, description="no new try begins after so long")
    started_after_s: float = Field(default=0.5, gt=0, description="calls that last longer are announced as started")
    stop_lease_s: float = Field(
        default=1.0, gt=0, description="how old a reading of the stops may be when a call starts; below owner_timeout_s"
    )
    owner_timeout_s: float = Field(
        default=5.0, gt=0, description="an executor not heard of for so long has lost its claims"
    )
    heartbeat_s: float = Field(
        default=0.25, gt=0, description="how often an executor shows that it lives and reads the stops"
    )
    max_probes: int = Field(default=8, ge=0, description="lookups made for one unknown outcome before it is left open")
    probe_interval_s: float = Field(default=1.0, gt=0, description="how often it is seen which lookups are due")
    probe_first_pause_s: float = Field(
        default=10.0, gt=0, description="pause after the first lookup that told nothing; doubles from there"
    )
    probe_max_pause_s: float = Field(default=900.0, gt=0, description="longest pause between lookups of one outcome")
    rebuild_interval_s: float = Field(
        default=600.0, gt=0, description="how often tools and stops are projected anew, come what may"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Settings:
        if not self.heartbeat_s < self.stop_lease_s < self.owner_timeout_s:
            raise ValueError("heartbeat_s must be below stop_lease_s, and that below owner_timeout_s")
        return self
