"""Whether a tool's sensitive arguments can be kept so: marked where they are found, used where only the executor reads.

Pure. Everybody else sees a sealed value: a rule that would have to look at it is an error here.
"""

from __future__ import annotations

from collections.abc import Iterator

from countersign_contracts.catalogue import Fact, FileError, Tool
from countersign_contracts.documents import Parsed
from countersign_contracts.sensitive import read_marks
from countersign_contracts.templates import placeholders


def sensitive_errors(parsed: Parsed, tool: Tool) -> Iterator[FileError]:
    """Everything wrong with the tool's sensitive arguments."""
    marks, misplaced = read_marks(tool.arguments)
    for each in misplaced:
        yield parsed.error(("arguments", *each.loc), each.message, each.allowed)
    hidden = marks.holding
    for place in ("path", "query"):
        for index, name in enumerate(getattr(tool.http, place)):
            if name in hidden:
                message = f"`{name}` is sensitive, and URLs are kept in logs on the way"
                yield parsed.error(("http", place, index), message, "http.body")
    for place, template in (("resource", tool.resource), ("preview", tool.preview)):
        for name in dict.fromkeys(placeholders(template)):
            if name in hidden:
                message = f"`{name}` is sensitive, and people are shown the {place}"
                yield parsed.error((place,), message, "arguments that are not sensitive")
    for index, condition in enumerate(tool.destructive_when):
        if condition.field in hidden:
            message = f"`{condition.field}` is sensitive: policy, which asks for the risk, cannot read it"
            yield parsed.error(("destructive_when", index, "field"), message, "an argument that is not sensitive")
    for index, fact in enumerate(tool.facts):
        yield from _fact_errors(parsed, ("facts", index), fact, hidden)


def sensitive_lookup(fact: Fact, lookup: Tool) -> str | None:
    """Why ``lookup`` cannot be used: the fact would give it a sensitive argument, in the clear."""
    hidden = read_marks(lookup.arguments)[0].holding
    for name in fact.args:
        if name in hidden:
            return f"`{name}` of `{lookup.name}` is sensitive, and what a fact gives is in the clear"
    return None


def _fact_errors(parsed: Parsed, loc: tuple[str | int, ...], fact: Fact, hidden: frozenset[str]) -> Iterator[FileError]:
    texts = [(("args", name), value) for name, value in fact.args.items() if isinstance(value, str)]
    for where, text in [*texts, (("message",), fact.message)]:
        for name in placeholders(text):
            if name in hidden:
                message = f"`{name}` is sensitive: a fact is looked up, and told of, in the clear"
                yield parsed.error((*loc, *where), message, "arguments that are not sensitive")
