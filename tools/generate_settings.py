"""The page of settings: what each service, and the command, reads from the environment."""

import importlib
import json
from collections.abc import Iterator
from typing import Any

from pydantic_settings import BaseSettings

from countersign_chassis import ServiceSettings
from countersign_cli.settings import ClientSettings
from countersign_contracts.event import SERVICES
from generate_markdown import code, page, table

_HEAD = ("variable", "type", "default", "meaning")


def settings() -> str:
    """The page."""
    common = _rows(ServiceSettings)
    parts = [
        "Every setting is an environment variable, and has a default that works on one machine. `countersign up` sets"
        " what differs there. Units stand at the end of a name: `_s` is seconds, `_bytes` is bytes. With a value"
        " that does not fit its type a service does not start.",
        "## Every service",
        table(_HEAD, common.values()),
    ]
    for service in SERVICES:
        own = importlib.import_module(f"countersign_{service}.settings").Settings
        rows = [row for name, row in _rows(own).items() if common.get(name) != row]
        parts += [f"## {service}", table(_HEAD, rows) if rows else "Nothing of its own."]
    parts += ["## The command `countersign`", table(_HEAD, _rows(ClientSettings).values())]
    return page("Settings", *parts)


def _rows(model: type[BaseSettings]) -> dict[str, tuple[str, str, str, str]]:
    prefix = str(model.model_config.get("env_prefix"))
    return {
        name: (code(f"{prefix}{name}".upper()), _type(field), _default(field), str(field.get("description", "")))
        for name, field in model.model_json_schema()["properties"].items()
    }


def _default(field: dict[str, Any]) -> str:
    match field.get("default"):
        case None:
            return "none"
        case list(items):
            return code(json.dumps(items))
        case value:
            return code(str(value))


def _type(field: dict[str, Any]) -> str:
    """The type and its bounds in words, from the field's JSON Schema."""
    options = [option for option in field.get("anyOf", [field]) if option.get("type") != "null"]
    return " or ".join(" ".join(_words(option)) for option in options)


def _words(option: dict[str, Any]) -> Iterator[str]:
    match option:
        case {"enum": allowed}:
            yield " or ".join(code(str(value)) for value in allowed)
        case {"type": "array", "items": items}:
            yield f"JSON list of {' '.join(_words(items))}"
        case {"format": "path"}:
            yield "path"
        case {"type": "string"}:
            yield "text"
        case {"type": kind}:
            yield str(kind)
    low, high = option.get("minimum"), option.get("maximum")
    if (above := option.get("exclusiveMinimum")) is not None:
        yield f"above {above:g}"
    elif low is not None and high is None:
        yield f"from {low:g}"
    if high is not None:
        yield f"{low:g} to {high:g}" if low is not None else f"up to {high:g}"
