"""How risky an action is, and whether a person must countersign it.

The rules (the control layer's): reading is low; writing is medium outside production and high in it, or where the
tool's ``destructive_when`` holds; destroying and reaching out to others are high. High and critical need approval, and
so does medium in production. A profile's override stands above the tool's own, and both above the rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Literal, get_args

from countersign_contracts.actions import Risk
from countersign_contracts.catalogue import Override, Tool


def is_destructive(tool: Tool, args: Mapping[str, Any]) -> bool:
    """Whether these arguments make the tool destroy something."""
    return tool.effect == "destructive" or any(c.holds(dict(args)) for c in tool.destructive_when)


def risk_of(tool: Tool, args: Mapping[str, Any], env: str, override: Override | None, production: Set[str]) -> Risk:
    """The risk of invoking ``tool`` with ``args`` in ``env``; ``production`` are the environments that count as it."""
    if override is not None and override.risk is not None:
        return override.risk
    declared = (tool.risk or {}).get(env) or (tool.risk or {}).get("default")
    if declared is not None:
        return declared
    if is_destructive(tool, args):
        return "high"
    by_effect: Mapping[str, Risk] = {
        "read": "low",
        "write": "high" if env in production else "medium",
        "external": "high",
    }
    return by_effect[tool.effect]


def riskier(risk: Risk | None, than: Risk | None) -> bool:
    """Whether ``risk`` is higher than the one that people saw."""
    return _rank(risk) > _rank(than)


def _rank(risk: Risk | None) -> int:
    return 0 if risk is None else 1 + get_args(Risk).index(risk)


def approval_rule(risk: Risk, tool: Tool, env: str, override: Override | None, production: Set[str]) -> str | None:
    """Why a person must approve, for people; None where nobody need."""
    declared: Literal["never", "always"] | None = tool.approval
    whose = f"tool `{tool.name}`"
    if override is not None and override.approval is not None:
        declared, whose = override.approval, "the agent's profile"
    if declared is not None:
        return f"{whose} asks for approval always" if declared == "always" else None
    if risk in ("high", "critical"):
        return f"{risk} risk needs approval"
    if risk == "medium" and env in production:
        return f"medium risk in {env} needs approval"
    return None
