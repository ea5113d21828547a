"""How agents are configured: layers above one another, each with its versions; and what an agent says of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints

from .canonical import canonical
from .command import Command, Done, Rpc
from .event import Event, Spec
from .fleet import FleetEvent
from .ids import AGENT_ID_PATTERN, AgentId, Digest
from .model import Frozen, Time

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
#: From the lowest to the highest: a higher layer's value counts.
Layer = Literal["default", "environment", "type", "agent", "runtime"]
#: What people can set: for every agent of a type, for one agent, and for one agent until somebody takes it back.
SCOPE_PATTERN = rf"^(type|agent|runtime):{AGENT_ID_PATTERN.removeprefix('^')}"
ConfigScope = Annotated[str, StringConstraints(pattern=SCOPE_PATTERN)]
SettingName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$")]


class ConfigValues(Frozen):
    """What one layer says; what is absent, the layers below say. A value has exactly its type: "5" is no number."""

    model_config = ConfigDict(strict=True)

    log_level: LogLevel | None = None
    metrics_enabled: bool | None = None
    metrics_interval_s: int | None = Field(default=None, ge=1, le=3600)
    settings: dict[SettingName, Any] | None = Field(
        default=None, max_length=200, description="the agent's own, by name; a higher layer's count name by name"
    )


DEFAULTS = ConfigValues(log_level="INFO", metrics_enabled=True, metrics_interval_s=60, settings={})


def merged(layers: Iterable[ConfigValues]) -> ConfigValues:
    """What counts of layers, from the lowest to the highest."""
    values: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for layer in layers:
        said = layer.model_dump(exclude_none=True)
        settings |= said.pop("settings", {})
        values |= said
    return ConfigValues(**values, settings=settings)


def config_digest(values: ConfigValues) -> str:
    """What an agent names when it says which configuration it has: SHA-256 over the RFC 8785 form.

    Raises :class:`Malformed` for what has no such form.
    """
    return f"sha256:{hashlib.sha256(canonical(values.model_dump(mode='json', exclude_none=True))).hexdigest()}"


class ConfigLayer(Frozen):
    """One layer of an agent's configuration. ``version`` 0: nobody has set it."""

    layer: Layer
    scope: str | None = None
    version: int = 0
    values: ConfigValues


class Applied(Frozen):
    """What the agent said of the configuration of that digest."""

    digest: Digest
    result: Literal["applied", "rejected"]
    reason: str | None = Field(default=None, max_length=2000)
    at: Time


class AgentConfig(Frozen):
    """An agent's configuration: what counts, where it comes from, and what the agent made of it."""

    agent_id: AgentId
    effective: ConfigValues
    digest: Digest
    heartbeat_s: int = Field(description="from the agent's registration")
    layers: tuple[ConfigLayer, ...]
    applied: Applied | None = None
    in_force: bool = Field(description="the agent said that it applied exactly this")


class GetConfig(Command):
    rpc: ClassVar[Rpc] = Rpc("registry", "get_config")
    reply: ClassVar[type[Frozen]] = AgentConfig
    agent_id: AgentId


class ConfigVersion(Frozen):
    """A layer as somebody set it."""

    scope: ConfigScope
    version: int = Field(ge=1)
    values: ConfigValues
    settings_schema: dict[str, Any] | None = Field(default=None, description="JSON Schema of `settings`; of a type")
    by: str
    at: Time
    reason: str


class ConfigVersions(Frozen):
    items: tuple[ConfigVersion, ...]
    next: int | None = Field(default=None, description="pass as `before` for the next page")


class ConfigHistory(Command):
    """The latest version first."""

    rpc: ClassVar[Rpc] = Rpc("registry", "config_history")
    reply: ClassVar[type[Frozen]] = ConfigVersions
    scope: ConfigScope
    limit: int = Field(default=50, ge=1, le=200)
    before: int | None = Field(default=None, ge=1)


class Rejection(Frozen):
    agent_id: AgentId
    reason: str


class ConfigChange(Frozen):
    """What setting a layer came to. Of the agents that run: how many applied it, would not, or have not said yet."""

    version: ConfigVersion
    before: ConfigValues
    changed: bool
    applied: int = 0
    rejected: tuple[Rejection, ...] = ()
    pending: int = 0


class SetConfig(Command):
    """Replace a layer. Raises `invalid` naming the field, `stale` if ``base`` is not its present version."""

    rpc: ClassVar[Rpc] = Rpc("registry", "set_config", timeout_s=15)
    reply: ClassVar[type[Frozen]] = ConfigChange
    scope: ConfigScope
    values: ConfigValues
    settings_schema: dict[str, Any] | None = None
    base: int | None = Field(default=None, ge=0, description="the version that was changed; none: whatever there is")
    by: str
    reason: str = Field(min_length=1, max_length=2000)
    wait_s: float = Field(default=2.0, ge=0, le=10, description="how long agents that run have to answer")


class RollBackConfig(Command):
    """Set a layer to what an earlier version said; that is a new version."""

    rpc: ClassVar[Rpc] = Rpc("registry", "roll_back_config", timeout_s=15)
    reply: ClassVar[type[Frozen]] = ConfigChange
    scope: ConfigScope
    version: int = Field(ge=1)
    by: str
    reason: str = Field(min_length=1, max_length=2000)
    wait_s: float = Field(default=2.0, ge=0, le=10)


class Configured(Frozen):
    """What an agent says of a configuration."""

    digest: Digest
    result: Literal["applied", "rejected"]
    reason: str | None = Field(default=None, max_length=2000)


class ReportConfigured(Command):
    """An agent that came over HTTP says it."""

    rpc: ClassVar[Rpc] = Rpc("registry", "report_configured")
    reply: ClassVar[type[Frozen]] = Done
    agent_id: AgentId
    said: Configured


class Configuration(Frozen):
    """What an agent is sent, and gets when it asks."""

    digest: Digest
    values: ConfigValues


class ConfigChanged(Event):
    """Somebody set a layer."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.config_changed.{token}", ("registry",))
    change: ConfigVersion
    before: ConfigValues

    def about(self) -> str:
        return self.change.scope

    def token(self) -> str:
        return self.change.scope.partition(":")[2]

    def event_id(self) -> str:
        return f"config.{self.change.scope.replace(':', '.')}.{self.change.version}"


class ConfigApplied(FleetEvent):
    """An agent said that it applied a configuration, or why not."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.config_applied.{token}", ("registry",))
    applied: Applied
