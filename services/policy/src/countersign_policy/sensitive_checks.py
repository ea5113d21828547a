"""Rules that would have to look at a sensitive argument: refused when they are applied, or when the argument is marked.

Cedar does not see such arguments. A policy that asks for one with ``has`` would be valid and never true; of a `forbid`
that is the wrong way to fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from countersign_contracts.catalogue import FileError, Profile, Tool, ToolRecord
from countersign_contracts.documents import Parsed
from countersign_contracts.sensitive import Marks, read_marks

from .cedar_text import WrittenPolicy, arguments_read, tools_named

_ONLY = "a sensitive argument can be read by the executor only"


def check_policy(policy: WrittenPolicy, tools: Mapping[str, ToolRecord]) -> Iterator[FileError]:
    """What a written policy reads that a tool of the catalogue marks."""
    for tool, path in _reads(policy, [record.tool for record in tools.values()]):
        allowed = 'arguments that are not sensitive, or a scope with other tools: action == Action::"…"'
        yield policy.error(f"tool `{tool.name}` marks `{path}`: {_ONLY}", allowed)


def check_marks(
    parsed: Parsed, tool: Tool, profiles: Iterable[Profile], policies: Sequence[WrittenPolicy]
) -> Iterator[FileError]:
    """Arguments that the tool marks, and a profile or policy that is not part of the change looks at."""
    hidden = read_marks(tool.arguments)[0].holding
    for profile in profiles:
        for guardrail in profile.guardrails:
            if guardrail.field in hidden and tool.name in (guardrail.tools or profile.tools):
                message = (
                    f"guardrail `{guardrail.name}` of profile `{profile.name}` adds `{guardrail.field}` up; {_ONLY}"
                )
                loc = ("arguments", "properties", guardrail.field or "")
                yield parsed.error(loc, message, "no `x-sensitive` here, or a profile without that guardrail")
    for policy in policies:
        for _, path in _reads(policy, [tool]):
            loc = ("arguments", "properties", path.split(".")[0])
            message = f"policy `{policy.id}` reads `{path}`; {_ONLY}"
            yield parsed.error(loc, message, "no `x-sensitive` here, or that policy changed in the same files")


def _reads(policy: WrittenPolicy, tools: Iterable[Tool]) -> Iterator[tuple[Tool, str]]:
    named = tools_named(policy.est)
    paths = dict.fromkeys(arguments_read(policy.est))
    for tool in tools:
        if named is None or tool.name in named:
            marks = read_marks(tool.arguments)[0]
            yield from ((tool, ".".join(path)) for path in paths if _is_marked(path, marks))


def _is_marked(path: Sequence[str], marks: Marks) -> bool:
    for name in path:
        if name in marks.sensitive:
            return True
        if name not in marks.within:
            return False
        marks = marks.within[name]
    return False
