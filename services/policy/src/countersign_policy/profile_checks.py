"""What a profile's file must get right beyond its form: names that exist, guardrails that mean something."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from zoneinfo import ZoneInfo

from countersign_contracts.catalogue import FileError, Guardrail, Profile, Tool, ToolRecord
from countersign_contracts.documents import Parsed
from countersign_contracts.sensitive import read_marks

#: The fields that mean something to each kind of guardrail, beside those that every kind has.
_MEANT: Mapping[str, tuple[str, ...]] = {
    "session_calls": ("limit", "session_window_s", "fallback_window_s"),
    "rate": ("limit", "window_s", "per"),
    "spend": ("limit", "window_s", "per", "field"),
    "time_window": ("days", "start", "end", "timezone"),
}
_COMMON = ("kind", "name", "tools", "environments")


def check_profile(parsed: Parsed, profile: Profile, tools: Mapping[str, ToolRecord]) -> Iterator[FileError]:
    """Every error in a profile."""
    yield from _unknown(parsed, ("tools",), profile.tools, tools)
    for section in ("fields", "overrides"):
        for name in getattr(profile, section):
            if name not in tools:
                yield _no_tool(parsed, (section, name), name, tools)
    for name, fields in profile.fields.items():
        if name in tools:
            yield from _body_fields(parsed, name, fields, tools[name].tool)
    names: set[str] = set()
    for index, guardrail in enumerate(profile.guardrails):
        at = ("guardrails", index)
        if guardrail.name in names:
            yield parsed.error((*at, "name"), f"a guardrail `{guardrail.name}` stands above already")
        names.add(guardrail.name)
        yield from _unknown(parsed, (*at, "tools"), guardrail.tools, tools)
        yield from _guardrail(parsed, at, guardrail, profile, tools)


def _guardrail(
    parsed: Parsed,
    at: tuple[str, int],
    guardrail: Guardrail,
    profile: Profile,
    tools: Mapping[str, ToolRecord],
) -> Iterator[FileError]:
    meant = (*_COMMON, *_MEANT[guardrail.kind])
    for name in sorted(guardrail.model_fields_set.difference(meant)):
        message = f"`{name}` means nothing to a guardrail of kind {guardrail.kind}"
        yield parsed.error((*at, name), message, ", ".join(meant))
    if guardrail.kind == "time_window":
        if guardrail.days == ():
            yield parsed.error((*at, "days"), "`days` is empty: the window would never open", "at least one day")
        if not _is_zone(guardrail.timezone):
            message = f"time zone `{guardrail.timezone}` is unknown"
            yield parsed.error((*at, "timezone"), message, "an IANA name such as Europe/Berlin")
        if guardrail.start == guardrail.end:
            message = "`start` and `end` are the same: the window would be always open"
            yield parsed.error((*at, "end"), message, "another time; before `start` it is of the next day")
    if guardrail.kind == "spend" and guardrail.field is not None:
        yield from _spend(parsed, at, guardrail, guardrail.tools or profile.tools, tools)


def _spend(
    parsed: Parsed,
    at: tuple[str, int],
    guardrail: Guardrail,
    named: Iterable[str],
    tools: Mapping[str, ToolRecord],
) -> Iterator[FileError]:
    """The argument must be a number wherever it is, and be somewhere; everywhere, if the tools are listed."""
    field = guardrail.field or ""
    known = [tools[name].tool for name in named if name in tools]
    having = [tool for tool in known if field in _properties(tool)]
    for tool in known:
        if field in read_marks(tool.arguments)[0].holding:
            message = (
                f"`{field}` of tool `{tool.name}` is sensitive: only the executor can read it, so nobody adds it up"
            )
            yield parsed.error((*at, "field"), message, _listed(_numbers(tool)))
        elif tool in having and not _numeric(_properties(tool)[field]):
            message = f"`{field}` of tool `{tool.name}` is no number, so it cannot be added up"
            yield parsed.error((*at, "field"), message, _listed(_numbers(tool)))
        elif tool not in having and (guardrail.tools or not having):
            message = f"tool `{tool.name}` has no argument `{field}`"
            yield parsed.error((*at, "field"), message, _listed(_numbers(tool)))


def _body_fields(parsed: Parsed, name: str, fields: Iterable[str], tool: Tool) -> Iterator[FileError]:
    known = [f for f in _properties(tool) if f not in tool.http.path and f not in tool.http.query]
    if tool.arguments.get("additionalProperties", True) is not False and not known:
        return
    for index, field in enumerate(fields):
        if field not in known:
            message = f"tool `{name}` has no body field `{field}`"
            yield parsed.error(("fields", name, index), message, _listed(known))


def _unknown(
    parsed: Parsed, at: tuple[str | int, ...], names: Iterable[str], tools: Mapping[str, ToolRecord]
) -> Iterator[FileError]:
    for index, name in enumerate(names):
        if name not in tools:
            yield _no_tool(parsed, (*at, index), name, tools)


def _no_tool(parsed: Parsed, at: tuple[str | int, ...], name: str, tools: Iterable[str]) -> FileError:
    return parsed.error(at, f"tool `{name}` is unknown", _listed(sorted(tools)))


def _properties(tool: Tool) -> Mapping[str, object]:
    properties = tool.arguments.get("properties", {})
    return properties if isinstance(properties, dict) else {}


def _numbers(tool: Tool) -> list[str]:
    hidden = read_marks(tool.arguments)[0].holding
    return [name for name, schema in _properties(tool).items() if _numeric(schema) and name not in hidden]


def _numeric(schema: object) -> bool:
    return isinstance(schema, dict) and schema.get("type") in ("integer", "number")


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; not a name; a directory
        return False
    return True


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
