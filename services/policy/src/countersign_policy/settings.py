"""The policy service's settings; the environment is read here and in the base class only."""

from __future__ import annotations

from pydantic import Field

from countersign_chassis import ServiceSettings


class Settings(ServiceSettings):
    """Everything has a default that works locally."""

    warrant_lifetime_s: int = Field(
        default=300, ge=10, le=86_400, description="how long a warrant is good for; a restart must fit in"
    )
    production_environments: tuple[str, ...] = Field(
        default=("prod", "production"),
        description="environments where the risk rules are those of production",
    )
    facts_patience_s: float = Field(
        default=10.0, gt=0, le=60, description="how long a fact is asked for before the action is denied"
    )
    facts_in_flight: int = Field(default=64, ge=1, le=1024, description="fact lookups at once")
    purge_interval_s: float = Field(
        default=300.0, gt=0, description="how often reservations that count no more are deleted"
    )
    change_publish_interval_s: float = Field(
        default=2.0, gt=0, description="how often events of changes are tried again until the stream has them"
    )
