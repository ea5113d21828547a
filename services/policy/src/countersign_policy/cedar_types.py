"""Arguments as Cedar sees them: a Cedar record type from a tool's JSON Schema, and values of that type.

Cedar has strings, booleans, 64-bit integers, decimals with four digits after the point, sets and records. What a
JSON Schema says beyond that (alternatives, numbers of either kind, free-form objects) has no Cedar type: such an
argument is not in ``context.args``, and a policy that names it is refused when it is applied.

Not here: whether the arguments are valid. They are checked against the JSON Schema before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from typing import Any, Literal

import cedarpy

_MAX_DEPTH = 6
_STEP = Decimal("0.0001")
#: Cedar's decimal is a 64-bit integer of ten-thousandths.
_LARGEST = Decimal(2**63 - 1) * _STEP


class Inexact(Exception):
    """A number that a policy compares cannot be given to Cedar exactly."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True, slots=True)
class CedarType:
    """One Cedar type. ``of`` are a set's elements; ``fields`` a record's, with whether each is required."""

    kind: Literal["String", "Boolean", "Long", "decimal", "Set", "Record"]
    of: CedarType | None = None
    fields: Mapping[str, tuple[CedarType, bool]] | None = None

    def schema(self) -> dict[str, Any]:
        """The type in Cedar's JSON schema format."""
        if self.kind == "decimal":
            return {"type": "Extension", "name": "decimal"}
        if self.kind == "Set" and self.of is not None:
            return {"type": "Set", "element": self.of.schema()}
        if self.kind == "Record":
            attributes = {
                name: {**field.schema(), "required": required}
                for name, (field, required) in (self.fields or {}).items()
            }
            return {"type": "Record", "attributes": attributes}
        return {"type": self.kind}

    def value(self, value: Any, exact: Set[str], name: str = "") -> Any:
        """``value`` in Cedar's JSON format for contexts.

        Raises :class:`Inexact` for a number under one of the names in ``exact`` that a decimal cannot hold; elsewhere
        it is rounded away from zero, since no policy can look at it.
        """
        if self.kind == "Long":
            return int(value)
        if self.kind == "decimal":
            return {"__extn": {"fn": "decimal", "arg": _decimal(value, exact, name)}}
        if self.kind == "Set" and self.of is not None:
            return [self.of.value(item, exact, name) for item in value]
        if self.kind == "Record":
            return {
                key: field.value(value[key], exact, key)
                for key, (field, _) in (self.fields or {}).items()
                if value.get(key) is not None
            }
        return value


def record_of(schema: Mapping[str, Any]) -> CedarType:
    """The record type of a tool's arguments; arguments that Cedar cannot type are left out."""
    found = _type(schema, schema, 0)
    return found if found is not None and found.kind == "Record" else CedarType("Record", fields={})


def is_cedar_type(type: CedarType) -> bool:
    """Whether Cedar takes the type: it has rules of its own for names."""
    try:
        cedarpy.Schema.from_json_str(json.dumps({"": {"entityTypes": {"T": {"shape": type.schema()}}, "actions": {}}}))
    except ValueError:
        return False
    return True


def _type(schema: Any, root: Mapping[str, Any], depth: int) -> CedarType | None:
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return None
    if "$ref" in schema:
        return _type(_local(schema["$ref"], root), root, depth + 1)
    match _named(schema):
        case "string":
            return CedarType("String")
        case "boolean":
            return CedarType("Boolean")
        case "integer":
            return CedarType("Long")
        case "number":
            return CedarType("decimal")
        case "array":
            of = _type(schema.get("items"), root, depth + 1)
            # an element that may be null has no place in a Cedar set
            return None if of is None or _nullable(schema.get("items")) else CedarType("Set", of=of)
        case "object":
            return _record(schema, root, depth)
    return None


def _record(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> CedarType:
    required = schema.get("required", ())
    fields: dict[str, tuple[CedarType, bool]] = {}
    for name, each in schema.get("properties", {}).items():
        found = _type(each, root, depth + 1)
        # names with two underscores are Cedar's own: `__entity` and `__extn` would turn a value into something else
        if found is not None and not name.startswith("__"):
            fields[name] = (found, name in required and not _nullable(each))
    return CedarType("Record", fields=fields)


def _named(schema: Mapping[str, Any]) -> str | None:
    """The one JSON type that values have, ``null`` aside; inferred from a list of constants."""
    named = schema.get("type")
    if isinstance(named, str):
        return named
    if isinstance(named, list):
        others = [each for each in named if each != "null"]
        return others[0] if len(others) == 1 else None
    constants = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if constants and all(isinstance(each, str) for each in constants):
        return "string"
    return None


def _nullable(schema: Any) -> bool:
    named = schema.get("type") if isinstance(schema, Mapping) else None
    return isinstance(named, list) and "null" in named


def _local(reference: Any, root: Mapping[str, Any]) -> Any:
    """What ``#/…`` points at; None for any other reference."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    at: Any = root
    for part in reference[2:].split("/"):
        if not isinstance(at, Mapping):
            return None
        at = at.get(part.replace("~1", "/").replace("~0", "~"))
    return at


def _decimal(value: Any, exact: Set[str], name: str) -> str:
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    rounded = max(-_LARGEST, min(_LARGEST, number)).quantize(_STEP, rounding=ROUND_UP)
    if rounded != number and name in exact:
        raise Inexact(name)
    return f"{rounded:f}"
