"""Agents' programs, as they are discovered in the registry's folders."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from .catalogue import FileError
from .command import Command, Rpc
from .event import Event, Spec
from .fleet import AgentType
from .ids import prefixed
from .model import Frozen, Time

#: Name of a NATS subject that an agent wants to hear or speak on: no wildcards, at most eight words.
Topic = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,30}(\.[A-Za-z0-9_-]{1,31}){0,7}$")]
AgentName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
AgentVersion = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class AgentPackage(Frozen):
    """A folder with an agent's program in it, as its file ``.env.discovery`` describes it."""

    agent_type: AgentType
    name: AgentName
    version: AgentVersion
    description: str = Field(min_length=1, max_length=500)
    subscribed_topics: tuple[Topic, ...] = Field(max_length=32)
    findings_topic: Topic
    countersign_version: str | None = Field(default=None, max_length=128, description="PEP 440, e.g. `>=0.1,<0.3`")
    path: str = Field(min_length=1, max_length=4096, description="of its folder")


class PackageView(Frozen):
    """A package, and how many agents of its type are registered and not revoked."""

    package: AgentPackage
    discovered_at: Time
    changed_at: Time
    agents: int = Field(ge=0)


class Packages(Frozen):
    """Packages by type; the first page has what is wrong in the folders too."""

    items: tuple[PackageView, ...]
    next: str | None = None
    folders: tuple[str, ...] = ()
    errors: tuple[FileError, ...] = ()


class ListPackages(Command):
    rpc: ClassVar[Rpc] = Rpc("registry", "packages")
    reply: ClassVar[type[Frozen]] = Packages
    limit: int = Field(default=100, ge=1, le=500)
    after: str | None = None


class PackageEvent(Event):
    """An event about one package; it travels under the package's type."""

    agent_type: AgentType
    event: str = Field(default_factory=lambda: prefixed("evt"))
    at: Time

    def about(self) -> str:
        return self.agent_type

    def event_id(self) -> str:
        return f"package.{self.agent_type}.{self.spec.name}.{self.event}"


class PackageDiscovered(PackageEvent):
    """A package is there that was not."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.discovered.{token}", ("registry",))
    package: AgentPackage


class PackageChanged(PackageEvent):
    """A package says something else of itself."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.package_changed.{token}", ("registry",))
    before: AgentPackage
    package: AgentPackage


class PackageGone(PackageEvent):
    """A package is there no more; agents of its type stay as they are."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.package_gone.{token}", ("registry",))
    package: AgentPackage
