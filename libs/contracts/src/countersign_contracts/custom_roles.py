"""Roles that a deployment declares besides the built-in ones: the declared form, commands, and what is told of them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from .command import Command, Done, Rpc
from .event import Event, Spec
from .fleet import RoleName
from .ids import prefixed
from .model import Frozen, Time
from .roles import EVERYTHING, PERMISSIONS


def _known(permissions: tuple[str, ...]) -> tuple[str, ...]:
    allowed = f"allowed: {', '.join(sorted(EVERYTHING))}"
    if unknown := sorted(set(permissions) - EVERYTHING):
        raise ValueError(f"`{unknown[0]}` is no permission; {allowed}")
    if len(set(permissions)) != len(permissions):
        raise ValueError("each permission is named once")
    if "read" not in permissions:
        raise ValueError("`read` must be among them: whoever may do something may see what it is about")
    return tuple(sorted(permissions))


def _own_name(name: str) -> str:
    if name in PERMISSIONS:
        raise ValueError(f"role `{name}` is built in and stays as it is: {', '.join(sorted(PERMISSIONS))} are taken")
    return name


_SCHEMA: dict[str, Any] = {
    "items": {"type": "string", "enum": sorted(EVERYTHING)},
    "uniqueItems": True,
    "contains": {"const": "read"},
}
Permissions = Annotated[
    tuple[str, ...],
    Field(min_length=1, max_length=64, json_schema_extra=_SCHEMA),
    AfterValidator(_known),
]


class Role(Frozen):
    """A role, as declared."""

    kind: Literal["role"] = "role"
    name: Annotated[RoleName, AfterValidator(_own_name)]
    description: str = Field(min_length=1, max_length=500)
    permissions: Permissions

    def terms(self) -> RoleTerms:
        """What an event says of it."""
        return RoleTerms(description=self.description, permissions=self.permissions)


class RoleView(Frozen):
    """A role, and how many people have it."""

    name: str
    description: str
    permissions: tuple[str, ...]
    built_in: bool
    people: int = Field(ge=0)


class Roles(Frozen):
    items: tuple[RoleView, ...]


class ListRoles(Command):
    """Every role, the built-in ones first."""

    rpc: ClassVar[Rpc] = Rpc("registry", "roles")
    reply: ClassVar[type[Frozen]] = Roles


class RemoveRole(Command):
    """There is no such role any more. Raises `conflict` while somebody has it, `forbidden`, `not_found`."""

    rpc: ClassVar[Rpc] = Rpc("registry", "remove_role")
    reply: ClassVar[type[Frozen]] = Done
    name: RoleName
    by: str


class RoleTerms(Frozen):
    """What a role was at a time: not checked by what roles may be now."""

    description: str
    permissions: tuple[str, ...]


class RoleChanged(Event):
    """A role was declared, changed or removed; what its people may changes with it."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.role_changed.{token}", ("registry",))
    name: str
    before: RoleTerms | None = None
    role: RoleTerms | None = None
    by: str
    at: Time
    event: str = Field(default_factory=lambda: prefixed("evt"))

    def about(self) -> str:
        return self.name

    def token(self) -> str:
        return "roles"

    def event_id(self) -> str:
        return f"role.{self.name}.{self.event}"
