"""The approvals' settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from countersign_chassis import ServiceSettings


class Settings(ServiceSettings):
    """When deadlines are looked at, how often leftovers are published, and how webhooks are posted to."""

    deadline_poll_s: float = Field(default=0.5, gt=0, description="longest delay between a deadline and its event")
    leftovers_poll_s: float = Field(default=2.0, gt=0, description="how often unpublished events are tried again")
    webhook_secrets_folder: Path | None = Field(
        default=None, description="signing secrets of webhooks, a file each, named for it"
    )
    webhook_timeout_s: float = Field(default=10.0, gt=0, le=120, description="for one post to a webhook")
    webhook_poll_s: float = Field(default=1.0, gt=0, description="how often due posts of all replicas are looked for")
    webhook_posts_at_once: int = Field(default=4, ge=1, le=64, description="to one webhook, from one replica")
