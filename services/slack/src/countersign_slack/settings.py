"""The Slack service's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from countersign_chassis import ServiceSettings


class Settings(ServiceSettings):
    """Tokens and channels are read from a folder: no token is in the environment."""

    slack_folder: Path = Field(
        default=Path(".countersign/slack"),
        description="holds `bot-token`, `app-token` or `signing-secret`, and `channels.yaml`",
    )
    slack_mode: Literal["socket", "http"] | None = Field(
        default=None, description="how Slack reaches us; default: socket where there is an `app-token`"
    )
    slack_team: str | None = Field(
        default=None, pattern=r"^T[A-Z0-9]{1,31}$", description="the workspace's id; default: the bot token's"
    )
    slack_api_url: str = Field(default="https://slack.com/api/", description="Slack's Web API")
    slack_pace_s: float = Field(default=1.0, ge=0, description="shortest time between two messages in one channel")
    slack_poll_s: float = Field(default=0.5, gt=0, description="how often other replicas' messages are looked for")
    slack_timeout_s: float = Field(default=10.0, gt=0, description="longest wait for an answer of Slack's")
    slack_backoff_max_s: float = Field(default=60.0, gt=0, description="longest pause while Slack is away")
    slack_ping_s: float = Field(default=5.0, gt=0, description="how often the Socket Mode connection is tried")
    slack_refusals_s: float = Field(
        default=60.0, gt=0, description="alike refusals within this time are one ledger entry with their count"
    )
    slack_keep_days: int = Field(default=30, ge=1, description="how long it is known which message told of what")
