"""Whether a read tool can be used to look something up, by a fact or by a probe. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from countersign_contracts.catalogue import Tool

from .arguments import declared_arguments


def unusable(name: str, lookup: Tool | None, rule: str) -> str | None:
    """Why the tool of that name cannot be used; ``rule`` says who looks with what, for people."""
    if lookup is None:
        return f"there is no tool `{name}`"
    if lookup.effect != "read":
        return f"`{name}` is of effect {lookup.effect}; {rule}"
    return None


def misfit(given: Collection[str], lookup: Tool) -> str | None:
    """Which argument it does not have, or needs and is not ``given``."""
    properties, required = declared_arguments(lookup)
    for name in given:
        if name not in properties:
            return f"`{lookup.name}` has no argument `{name}`"
    for name in required:
        if name not in given:
            return f"`{lookup.name}` needs the argument `{name}`"
    return None


def readers(tools: Mapping[str, Tool]) -> str:
    """The tools that only read, by name: what is allowed."""
    return ", ".join(sorted(name for name, each in tools.items() if each.effect == "read")) or "there is no read tool"
