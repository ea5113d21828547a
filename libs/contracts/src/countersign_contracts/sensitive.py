"""Which arguments of a tool are sensitive: `x-sensitive: true` in its JSON Schema, read into names. Pure.

A mark stands on a property of the arguments, or of an object that is reached from there through `properties` alone:
so everybody who has the schema knows the same places, without evaluating it. An object with a marked property takes
declared properties only and combines no schemas; what stands at such a place can be replaced by its sealed form
(:mod:`.sealed`) and the rest still be checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .sealed import SEALED_SCHEMA

KEYWORD = "x-sensitive"
_ALLOWED = f"`{KEYWORD}: true` on a property of the arguments, or of an object within them"
#: Keywords by which an object's schema could look at a value other than through `properties`.
_COMBINING = (
    "$dynamicRef",
    "$ref",
    "allOf",
    "anyOf",
    "const",
    "dependentSchemas",
    "else",
    "enum",
    "if",
    "not",
    "oneOf",
    "patternProperties",
    "then",
)
#: Their values are data, no schemas.
_DATA = frozenset({"const", "default", "enum", "examples"})
_BY_NAME = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})

Loc = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Misplaced:
    """A mark that would not hold, or a schema that cannot be checked while values are sealed; below `arguments`."""

    loc: Loc
    message: str
    allowed: str


@dataclass(frozen=True, slots=True)
class Marks:
    """An object's properties: all that are ``declared``, those ``sensitive``, and objects with marks ``within``."""

    declared: frozenset[str] = frozenset()
    sensitive: frozenset[str] = frozenset()
    within: Mapping[str, Marks] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything is sensitive."""
        return bool(self.sensitive or self.within)

    @property
    def holding(self) -> frozenset[str]:
        """The properties that are sensitive, or hold what is."""
        return self.sensitive | self.within.keys()


def read_marks(arguments: Mapping[str, Any]) -> tuple[Marks, tuple[Misplaced, ...]]:
    """The marks in a tool's `arguments`, and everything wrong with them: relied upon is only what has nothing wrong."""
    wrong: list[Misplaced] = []
    return _object(arguments, (), wrong), tuple(wrong)


def sealed_schema(arguments: Mapping[str, Any], marks: Marks) -> dict[str, Any]:
    """The schema of the arguments as they travel: a sealed value, and nothing else, where one is sensitive."""
    properties = dict(arguments.get("properties", {}))
    properties |= {name: SEALED_SCHEMA for name in marks.sensitive}
    properties |= {name: sealed_schema(properties[name], inner) for name, inner in marks.within.items()}
    return {**arguments, "properties": properties}


def shown_schema(arguments: Mapping[str, Any], marks: Marks) -> dict[str, Any]:
    """The schema of what others than the executor can read: without the sensitive arguments."""
    properties = {name: each for name, each in arguments.get("properties", {}).items() if name not in marks.sensitive}
    properties |= {name: shown_schema(properties[name], inner) for name, inner in marks.within.items()}
    return {**arguments, "properties": properties}


def _object(schema: Mapping[str, Any], loc: Loc, wrong: list[Misplaced]) -> Marks:
    properties = schema.get("properties")
    sensitive: set[str] = set()
    within: dict[str, Marks] = {}
    for name, each in properties.items() if isinstance(properties, Mapping) else ():
        here = (*loc, "properties", name)
        if not isinstance(each, Mapping):
            continue
        mark = each.get(KEYWORD, False)
        if not isinstance(mark, bool):
            wrong.append(Misplaced((*here, KEYWORD), f"`{KEYWORD}` is true or false", _ALLOWED))
        elif mark:
            sensitive.add(name)
        elif inner := _object(each, here, wrong):
            within[name] = inner
    found = Marks(
        frozenset(properties) if isinstance(properties, Mapping) else frozenset(), frozenset(sensitive), within
    )
    for key, value in schema.items():
        if key != "properties" and key not in _DATA:
            wrong += _stray(value, (*loc, key), named=key in _BY_NAME)
    if not loc and schema.get(KEYWORD, False) is not False:
        wrong.append(Misplaced((KEYWORD,), "the arguments as a whole cannot be sensitive", _ALLOWED))
    if found:
        wrong += _unreadable(schema, loc)
    return found


def _unreadable(schema: Mapping[str, Any], loc: Loc) -> Iterator[Misplaced]:
    """What keeps an object with sensitive properties from being checked while they are sealed."""
    what = "an object with a sensitive property"
    if schema.get("type") != "object":
        yield Misplaced((*loc, "type"), f"{what} is an object and nothing else", "type: object")
    if schema.get("additionalProperties") is not False:
        message = f"{what} takes declared properties only: of others nobody knows whether they are sensitive"
        yield Misplaced((*loc, "additionalProperties"), message, "additionalProperties: false")
    for key in _COMBINING:
        if key in schema:
            message = f"`{key}` would look at a sensitive value that only the executor can read"
            yield Misplaced((*loc, key), message, "conditions within the sensitive property's own schema")


def _stray(value: Any, loc: Loc, *, named: bool) -> Iterator[Misplaced]:
    """Marks where they would not hold. ``named``: the keys of ``value`` are names, not keywords."""
    if isinstance(value, Mapping):
        if not named and value.get(KEYWORD, False) is not False:
            yield Misplaced((*loc, KEYWORD), "a sensitive value cannot be found here", _ALLOWED)
        for key, each in value.items():
            if named or key not in _DATA:
                yield from _stray(each, (*loc, key), named=not named and key in _BY_NAME)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _stray(each, (*loc, index), named=False)
