"""Audit's settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from countersign_chassis import ServiceSettings


class Settings(ServiceSettings):
    """What can be set for audit, beyond what every service has."""

    postgres_pool_max: int = Field(
        default=8, ge=2, le=64, description="connections at most; one of them is the writer's for good"
    )
    checkpoint_file: Path = Field(
        default=Path(".countersign/checkpoints.jsonl"),
        description="checkpoints outside the database, best on another disk; it may be moved away at any time",
    )
    checkpoint_interval_s: float = Field(
        default=1.0,
        gt=0,
        le=3600,
        description="entries are covered by a checkpoint this soon, while audit runs",
    )
    checkpoint_entries: int = Field(
        default=1000, ge=1, description="sooner still, when so many entries are not covered yet"
    )
    append_max_entries: int = Field(default=512, ge=1, le=8192, description="entries written at once, at most")
    append_linger_s: float = Field(
        default=0.005, ge=0, le=1, description="how long entries that nobody waits for may wait for others"
    )
    write_timeout_s: float = Field(
        default=10.0,
        gt=0,
        description="a write that takes longer is given up, and tried again on a new connection",
    )
    standby_poll_s: float = Field(
        default=0.25, gt=0, description="how often a replica that stands by looks whether it may take over"
    )
