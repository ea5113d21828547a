"""What may stand in a layer of configuration, and what counts of an agent's layers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema_rs
import orjson

from countersign_contracts.agent_config import (
    DEFAULTS,
    ConfigLayer,
    ConfigValues,
    ConfigVersion,
    config_digest,
    merged,
)
from countersign_contracts.errors import CountersignError
from countersign_contracts.schema_work import DEEPEST, MOST_LOOKS, TooMuchWork, levels_of, most_looks

#: Of a layer, as JSON: it travels in one message, with the layers around it.
MOST_BYTES = 64 * 1024
_NOTHING = ConfigValues()


def layers_of(
    agent_id: str, agent_type: str | None, environment: ConfigValues, versions: Mapping[str, ConfigVersion]
) -> tuple[ConfigLayer, ...]:
    """An agent's layers, from the lowest to the highest."""
    scopes: dict[Any, str] = {"agent": f"agent:{agent_id}", "runtime": f"runtime:{agent_id}"}
    if agent_type is not None:
        scopes = {"type": f"type:{agent_type}"} | scopes
    found = [
        ConfigLayer(layer="default", values=DEFAULTS),
        ConfigLayer(layer="environment", values=environment),
    ]
    for layer, scope in scopes.items():
        version = versions.get(scope)
        found.append(
            ConfigLayer(layer=layer, scope=scope, values=_NOTHING)
            if version is None
            else ConfigLayer(layer=layer, scope=scope, version=version.version, values=version.values)
        )
    return tuple(found)


def effective(layers: tuple[ConfigLayer, ...]) -> ConfigValues:
    """What counts."""
    return merged(layer.values for layer in layers)


def check_layer(scope: str, values: ConfigValues, settings_schema: Mapping[str, Any] | None) -> None:
    """Raises `invalid` for a layer that can never count: too large, no canonical form, a schema that is none."""
    config_digest(values)
    size = len(values.to_bytes()) + len(orjson.dumps(settings_schema or {}))
    if size > MOST_BYTES:
        raise _invalid("settings", f"the layer has {size} bytes", f"at most {MOST_BYTES}")
    if levels_of(values.settings or {}) > DEEPEST:
        raise _invalid("settings", f"they nest deeper than {DEEPEST} levels", f"at most {DEEPEST}")
    if settings_schema is None:
        return
    if not scope.startswith("type:"):
        raise _invalid("settings_schema", "a schema belongs to a type of agents", "none, but for a scope `type:…`")
    if "$ref" in orjson.dumps(settings_schema).decode() and not _refers_inside(settings_schema):
        raise _invalid("settings_schema", "it refers to another document", "references within it: `#/…`")
    _validator(settings_schema)


def check_settings(agent: str, values: ConfigValues, settings_schema: Mapping[str, Any] | None) -> None:
    """Raises `invalid`, naming the setting, where what would count is not what the type's schema asks for."""
    if settings_schema is None:
        return
    try:
        _validator(settings_schema).validate(values.settings or {})
    except jsonschema_rs.ValidationError as error:
        where = ".".join(["settings", *(str(part) for part in error.instance_path)])
        raise _invalid(where, f"for {agent}: {error.message}", "what the type's `settings_schema` says") from None


def _validator(settings_schema: Mapping[str, Any]) -> Any:
    """Reads nothing from elsewhere: a schema may name any URL as its `$schema`, or as what it refers to."""
    try:
        most_looks(settings_schema)
        return jsonschema_rs.validator_for(dict(settings_schema), offline=True)
    except TooMuchWork as error:
        allowed = f"at most {MOST_LOOKS} parts for one value"
        raise _invalid("settings_schema", f"it cannot be used: {error}", allowed) from None
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise _invalid("settings_schema", f"it is no JSON Schema: {reason}", "JSON Schema 2020-12") from None


def _refers_inside(value: Any) -> bool:
    if isinstance(value, Mapping):
        reference = value.get("$ref")
        if isinstance(reference, str) and not reference.startswith("#"):
            return False
        return all(_refers_inside(each) for each in value.values())
    return all(_refers_inside(each) for each in value) if isinstance(value, list) else True


def _invalid(field: str, message: str, allowed: str) -> CountersignError:
    return CountersignError(
        f"{field}: {message} (allowed: {allowed}); what was in force stays so",
        code="invalid",
        errors=[{"field": field, "message": message, "allowed": allowed}],
    )
