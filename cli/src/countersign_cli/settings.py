"""How the command finds the system: settings from the environment, else the data folder of a local system."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ClientSettings(BaseSettings):
    """Read from the environment with prefix ``COUNTERSIGN_``."""

    model_config = SettingsConfigDict(env_prefix="COUNTERSIGN_", extra="ignore", frozen=True)

    url: str | None = Field(default=None, description="the gateway, e.g. https://countersign.example.com")
    token: str | None = Field(default=None, description="your token")
    config_dir: Path = Field(
        default=Path("~/.config/countersign"), description="where `countersign login` keeps what it was given"
    )
    data_dir: Path = Field(default=Path(".countersign"), description="data folder of a local system")
    health_addresses: str | None = Field(
        default=None,
        description="where `countersign status` finds the services' health ports, if `countersign up` does not run them"
        " here, e.g. `policy:8010,audit:8010`; each address of a name is a replica",
    )
    http_cert_file: Path | None = Field(
        default=None, description="of a local system: the gateway serves TLS with this certificate"
    )
    http_key_file: Path | None = Field(default=None, description="its private key")
    replicas: str | None = Field(
        default=None, description="processes of each service under `countersign up`, e.g. `policy=2,executor=2`"
    )
