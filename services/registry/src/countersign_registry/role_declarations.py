"""What declared roles would change: errors with file and line, or the new roles. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from countersign_contracts.canonical import canonical
from countersign_contracts.catalogue import FileError
from countersign_contracts.control import DeclaredChange
from countersign_contracts.custom_roles import Role
from countersign_contracts.documents import Parsed
from countersign_contracts.fleet import PersonRecord

from .authority import lacking


def read(parsed: Sequence[Parsed]) -> dict[str, tuple[Parsed, Role]]:
    """The roles among what files declare, by name."""
    found = {item.name: (item, item.model) for item in parsed if isinstance(item.model, Role)}
    return dict(sorted(found.items()))


def changed(declared: Mapping[str, tuple[Parsed, Role]], present: Mapping[str, Role]) -> list[Role]:
    """The declared roles that are not so yet, by name."""
    return [role for name, (_, role) in declared.items() if present.get(name) != role]


def errors(
    declared: Mapping[str, tuple[Parsed, Role]], present: Mapping[str, Role], by: str | None, actor: PersonRecord | None
) -> list[FileError]:
    """Why ``by`` may not declare this: it takes `people`, and all that a changed role allows, before and after."""
    found = []
    for role in changed(declared, present):
        before = present.get(role.name)
        wanted = {"people", *role.permissions, *(before.permissions if before is not None else ())}
        if missing := lacking(actor, wanted):
            may_not = ", ".join(f"`{each}`" for each in missing)
            found.append(
                declared[role.name][0].error(
                    ("permissions",),
                    f"{by or 'nobody'} may not {may_not}, and nobody gives or takes what they do not have",
                    "an admin applies it",
                )
            )
    return found


def changes(declared: Mapping[str, tuple[Parsed, Role]], present: Mapping[str, Role]) -> list[DeclaredChange]:
    """Each declared role, and what becomes of it."""
    found = []
    for name, (_, role) in declared.items():
        before, after = present.get(name), _described(role)
        if before is None:
            found.append(DeclaredChange(kind="role", name=name, action="create", after=after))
        elif before != role:
            found.append(
                DeclaredChange(kind="role", name=name, action="update", before=_described(before), after=after)
            )
        else:
            found.append(DeclaredChange(kind="role", name=name, action="unchanged"))
    return found


def base(agents: str, declared: Mapping[str, tuple[Parsed, Role]], present: Mapping[str, Role]) -> str:
    """The base of a change with roles in it, made from that of its agents; without roles, that of its agents."""
    if not declared:
        return agents
    form = {name: _described(present[name]) if name in present else None for name in declared}
    return "sha256:" + hashlib.sha256(canonical({"agents": agents, "roles": form})).hexdigest()


def _described(role: Role) -> dict[str, Any]:
    return {"description": role.description, "permissions": list(role.permissions)}
