"""Whether declared tools make sense: every error with its place in the file and what would be right. Pure.

Checked here is what a model cannot see: the schema itself, that every argument goes to exactly one place,
that the URL leads where a tool may go, that secrets and fact tools exist. How a change is applied is
:mod:`.change`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jsonschema_rs

from countersign_contracts.catalogue import FileError, Tool
from countersign_contracts.documents import Parsed
from countersign_contracts.schema_work import MOST_LOOKS, TooMuchWork, most_looks
from countersign_contracts.templates import placeholders, stray_brace

from .arguments import declared_arguments
from .check_facts import broken_references, fact_errors
from .check_http import http_errors
from .check_probe import broken_probes, probe_errors
from .check_sensitive import sensitive_errors
from .secrets import Secrets

_SCALARS = frozenset({"string", "integer", "number", "boolean"})


def catalogue_errors(
    declared: Mapping[str, tuple[Parsed, Tool]], present: Mapping[str, Tool], secrets: Secrets
) -> list[FileError]:
    """Everything wrong with the ``declared`` tools, together with those ``present`` in the catalogue
    already.
    """
    tools = {**present, **{name: tool for name, (_, tool) in declared.items()}}
    errors: list[FileError] = []
    for parsed, tool in declared.values():
        errors += _schema_errors(parsed, tool)
        errors += _mapping_errors(parsed, tool)
        errors += http_errors(parsed, tool, secrets)
        errors += fact_errors(parsed, tool, tools)
        errors += sensitive_errors(parsed, tool)
        errors += probe_errors(parsed, tool, tools)
        errors += _name_errors(parsed, tool)
    errors += broken_references(declared, present)
    errors += broken_probes(declared, present)
    return errors


def _schema_errors(parsed: Parsed, tool: Tool) -> Iterator[FileError]:
    schema = tool.arguments
    if schema.get("type") != "object":
        yield parsed.error(("arguments", "type"), "arguments are an object", "type: object")
    if schema.get("additionalProperties") is not False:
        yield parsed.error(
            ("arguments", "additionalProperties"),
            "arguments that are not declared have no place to go",
            "additionalProperties: false",
        )
    if not isinstance(schema.get("properties", {}), dict):
        yield parsed.error(("arguments", "properties"), "properties are a mapping of names to schemas")
        return
    for loc, reference in _references(schema, ("arguments",)):
        if not reference.startswith("#"):
            yield parsed.error(loc, "a schema refers to nothing outside itself", "$ref: '#/$defs/…'")
            return
    try:
        most_looks(schema)
        jsonschema_rs.Draft202012Validator(schema, offline=True)
    except TooMuchWork as error:
        yield parsed.error(("arguments",), str(error), f"at most {MOST_LOOKS} parts for one value")
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        path: list[str | int] = list(getattr(error, "instance_path", []))
        message = getattr(error, "message", str(error)).splitlines()[0]
        yield parsed.error(("arguments", *path), f"not a JSON Schema (2020-12): {message}")


def _references(schema: Any, loc: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield (*loc, key), value
            else:
                yield from _references(value, (*loc, key))
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from _references(value, (*loc, index))


def _mapping_errors(parsed: Parsed, tool: Tool) -> Iterator[FileError]:
    """Every declared argument has one place in the request, and what stands in the URL can stand there."""
    properties, required = declared_arguments(tool)
    placed: dict[str, str] = {}
    for place in ("path", "query", "body"):
        for index, name in enumerate(getattr(tool.http, place)):
            loc = ("http", place, index)
            if name not in properties:
                yield parsed.error(loc, f"`{name}` is not an argument", _listed(properties))
            elif name in placed:
                yield parsed.error(loc, f"`{name}` already has its place under `{placed[name]}`")
            placed.setdefault(name, place)
            if place == "path" and name in properties and name not in required:
                yield parsed.error(loc, f"`{name}` is part of the path, so it must be required", "arguments.required")
            if place != "body" and not _fits_url(properties.get(name), listed=place == "query"):
                yield parsed.error(
                    loc,
                    f"`{name}` is part of the URL, so its schema needs a type that fits there",
                    ", ".join(sorted(_SCALARS)) + ("; or an array of them" if place == "query" else ""),
                )
    for name in properties:
        if name not in placed:
            yield parsed.error(
                ("arguments", "properties", name),
                f"`{name}` goes nowhere",
                "list it under http.path, http.query or http.body",
            )


def _name_errors(parsed: Parsed, tool: Tool) -> Iterator[FileError]:
    properties, required = declared_arguments(tool)
    for place, template in (("resource", tool.resource), ("preview", tool.preview)):
        if stray_brace(template):
            yield parsed.error((place,), "a brace stands there that encloses no argument's name", "{argument}")
        for name in dict.fromkeys(placeholders(template)):
            if name not in properties:
                yield parsed.error((place,), f"`{name}` is not an argument", _listed(properties))
            elif place == "resource" and name not in required:
                message = f"`{name}` names the resource, so it must be required"
                yield parsed.error((place,), message, "arguments.required")
    for index, condition in enumerate(tool.destructive_when):
        loc = ("destructive_when", index)
        if condition.field not in properties:
            yield parsed.error((*loc, "field"), f"`{condition.field}` is not an argument", _listed(properties))
        if "equals" in condition.model_fields_set and condition.equals is None:
            yield parsed.error((*loc, "equals"), "null cannot be compared with", "present: false")


def _fits_url(schema: Any, *, listed: bool) -> bool:
    """Whether values of this schema can be text in a URL: by its type, or by what it enumerates."""
    if not isinstance(schema, dict):
        return schema is None  # an unknown argument is reported as such
    for values in (schema.get("enum"), [schema["const"]] if "const" in schema else None):
        if isinstance(values, list):
            return all(isinstance(value, str | int | float) for value in values)
    kind = schema.get("type")
    if kind == "array" and listed:
        return _fits_url(schema.get("items", {}), listed=False)
    kinds = kind if isinstance(kind, list) else [kind]
    # `type` may be anything at all in a schema that is wrong: what is no text is no type
    return bool(kinds) and all(
        isinstance(each, str) and (each in _SCALARS or (listed and each == "null")) for each in kinds
    )


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "there are none"
