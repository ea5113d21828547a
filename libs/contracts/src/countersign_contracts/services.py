"""Which services there are. Apart from the events, so that a command knows them without loading every model."""

from __future__ import annotations

#: What every deployment runs.
CORE_SERVICES: tuple[str, ...] = ("gateway", "policy", "approvals", "executor", "audit", "registry")
#: What runs where it is wanted.
OPTIONAL_SERVICES: tuple[str, ...] = ("slack",)
#: Everything that has a key, a user on the bus and a role in the database.
SERVICES: tuple[str, ...] = CORE_SERVICES + OPTIONAL_SERVICES
