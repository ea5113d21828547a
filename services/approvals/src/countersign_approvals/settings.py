"""The approvals' settings."""

from __future__ import annotations

from pydantic import Field

from countersign_chassis import ServiceSettings


class Settings(ServiceSettings):
    """When deadlines are looked at, and how often leftovers are published."""

    deadline_poll_s: float = Field(default=0.5, gt=0, description="longest delay between a deadline and its event")
    leftovers_poll_s: float = Field(default=2.0, gt=0, description="how often unpublished events are tried again")
