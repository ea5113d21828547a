"""The arguments a tool declares, as its JSON Schema names them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from countersign_contracts.catalogue import Tool


def declared_arguments(tool: Tool) -> tuple[Mapping[str, Any], Collection[str]]:
    """The properties of the arguments' schema, and those required; empty where the schema is not one."""
    properties = tool.arguments.get("properties", {})
    required = tool.arguments.get("required", [])
    return (
        properties if isinstance(properties, dict) else {},
        [name for name in required if isinstance(name, str)] if isinstance(required, list) else [],
    )
