"""Nobody gives what they do not have: who may change what others may. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from countersign_contracts.errors import Refused
from countersign_contracts.fleet import PersonRecord


def lacking(actor: PersonRecord | None, permissions: Iterable[str]) -> list[str]:
    """Those of ``permissions`` that the actor may not themselves; all of them for who is not there (any more)."""
    if actor is None or actor.status != "active":
        return sorted(permissions)
    return sorted(permission for permission in permissions if not actor.may(permission))


def require_all(name: str, actor: PersonRecord | None, permissions: Iterable[str]) -> None:
    """Raises `forbidden` where the actor may not all of it."""
    if missing := lacking(actor, permissions):
        raise Refused(
            f"{name} may not {', '.join(f'`{each}`' for each in missing)}, and nobody gives, takes or changes what they"
            " do not have; an admin may"
        )
