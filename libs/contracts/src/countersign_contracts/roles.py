"""What the built-in roles of people allow, whichever door they come through. Others are declared (kind `role`)."""

from __future__ import annotations

from collections.abc import Iterable

#: role -> what it may do. An agent has no role: it may only act for itself and read its own actions.
PERMISSIONS: dict[str, frozenset[str]] = {
    "admin": frozenset(
        {"read", "vote", "revoke", "stop", "fleet", "declare", "cancel", "reconcile", "deadletters", "people"}
    ),
    "operator": frozenset({"read", "revoke", "stop", "fleet", "declare", "cancel", "reconcile", "deadletters"}),
    "approver": frozenset({"read", "vote", "revoke"}),
    "reader": frozenset({"read"}),
}
#: Every permission there is. Nothing is allowed that is not one of these.
EVERYTHING: frozenset[str] = PERMISSIONS["admin"]
#: What the built-in roles are for, as people are told.
MEANT_FOR: dict[str, str] = {
    "admin": "everything",
    "operator": "runs the system and its agents; does not vote",
    "approver": "decides on what is held, and revokes standing approvals",
    "reader": "sees everything and changes nothing",
}


def allows(roles: Iterable[str], permission: str) -> bool:
    """Whether one of the roles allows it."""
    return any(permission in PERMISSIONS.get(role, frozenset()) for role in roles)


def able(permission: str) -> str:
    """The roles that allow it, as people are told them."""
    return ", ".join(role for role, allowed in PERMISSIONS.items() if permission in allowed)
