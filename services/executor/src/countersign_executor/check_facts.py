"""Whether a tool's declared facts can be looked up.

By a read tool, with arguments that will be there. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from countersign_contracts.catalogue import Fact, FileError, Tool
from countersign_contracts.documents import Parsed
from countersign_contracts.templates import placeholders

from .arguments import declared_arguments
from .check_lookups import misfit, readers, unusable
from .check_sensitive import sensitive_lookup

_RULE = "a fact is looked up by a tool that only reads"


def fact_errors(parsed: Parsed, tool: Tool, tools: Mapping[str, Tool]) -> Iterator[FileError]:
    """Everything wrong with the tool's facts; ``tools``: the catalogue as it will be."""
    seen: set[str] = set()
    for index, fact in enumerate(tool.facts):
        loc = ("facts", index)
        if fact.name in seen:
            yield parsed.error((*loc, "name"), f"fact `{fact.name}` is there twice")
        seen.add(fact.name)
        if fact.deny_when.equals is None:
            yield parsed.error((*loc, "deny_when", "equals"), "null cannot be compared with")
        lookup = tools.get(fact.tool)
        if (wrong := unusable(fact.tool, lookup, _RULE)) is not None:
            yield parsed.error((*loc, "tool"), wrong, readers(tools))
        elif lookup is not None:
            yield from _argument_errors(parsed, loc, fact, lookup)
        yield from _template_errors(parsed, loc, fact, tool)


def broken_references(declared: Mapping[str, tuple[Parsed, Tool]], present: Mapping[str, Tool]) -> Iterator[FileError]:
    """Where a changed tool would break a fact of a tool that is not part of the change."""
    for name, tool in present.items():
        if name in declared:
            continue
        for fact in tool.facts:
            if fact.tool in declared:
                parsed, lookup = declared[fact.tool]
                wrong = unusable(fact.tool, lookup, _RULE) or _misfit(fact, lookup)
                if wrong:
                    yield parsed.error((), f"tool `{name}` looks up its fact `{fact.name}` here: {wrong}")


def _misfit(fact: Fact, lookup: Tool) -> str | None:
    return misfit(fact.args, lookup) or sensitive_lookup(fact, lookup)


def _argument_errors(parsed: Parsed, loc: tuple[str | int, ...], fact: Fact, lookup: Tool) -> Iterator[FileError]:
    if (wrong := _misfit(fact, lookup)) is not None:
        yield parsed.error((*loc, "args"), wrong, ", ".join(declared_arguments(lookup)[0]) or "no arguments")


def _template_errors(parsed: Parsed, loc: tuple[str | int, ...], fact: Fact, tool: Tool) -> Iterator[FileError]:
    properties, required = declared_arguments(tool)
    texts: list[tuple[tuple[str, ...], str]] = [
        (("args", name), value) for name, value in fact.args.items() if isinstance(value, str)
    ]
    for where, text in [*texts, (("message",), fact.message)]:
        for name in placeholders(text):
            if name not in properties:
                yield parsed.error(
                    (*loc, *where), f"`{name}` is not an argument of `{tool.name}`", ", ".join(properties)
                )
            elif name not in required and where[0] == "args":
                yield parsed.error(
                    (*loc, *where),
                    f"the lookup needs `{name}` every time, so it must be required",
                    "arguments.required",
                )
