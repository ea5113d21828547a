"""Hand-written Cedar: split into policies with their lines, parsed, named, and validated against the schema.

A policy's id is ``<file stem>/<its @id, or its number in the file>``. Cedar's own messages carry no position, so each
policy is parsed by itself and an error is reported at its line, or at the name in it that the message is about.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cedarpy

from countersign_contracts.catalogue import FileError

#: First parts of the ids of compiled policies; a file of that name could take one of theirs.
RESERVED_STEMS = ("agent", "profile")

#: Cedar's parser recurses without a bound of its own: what nests far deeper ends the whole process. And what a policy
#: nests is read from JSON, by a reader that stops at 128 levels.
_MOST_BRACKETS, _MOST_OPERATORS = 32, 1000
_TOO_DEEP = "more than about 50 operators in a row, or too many brackets within one another"
_SPLIT = 'several policies, several `when { … }` of one, or a set: ["a", "b"].contains(context.env)'

# A text that does not end is taken to the end of the file: looked for from each quote in it anew, that took hours.
_TOKEN = re.compile(r'//[^\n]*|"(?:[^"\\]|\\.)*"?|;', re.DOTALL)
_NESTING = re.compile(r'//[^\n]*|"(?:[^"\\]|\\.)*"?|[(\[{]|[)\]}]|&&|\|\||[-+*!.]|\b(?:if|has)\b', re.DOTALL)
_NAMED = re.compile(r"`([^`]+)`")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class WrittenPolicy:
    """One policy of a file: its id, Cedar's JSON form of it, its text, and the line (from 1) it starts at."""

    id: str
    est: Mapping[str, Any]
    text: str
    path: str
    line: int

    def error(self, message: str, allowed: str | None = None) -> FileError:
        """An error in this policy, at the line of the name that ``message`` is about where there is one."""
        line = self.line + _offset(self.text, message)
        return FileError(path=self.path, line=line, field=self.id, message=message, allowed=allowed)


def parse(path: str, stem: str, text: str) -> tuple[list[WrittenPolicy], list[FileError]]:
    """The policies of one ``.cedar`` file, and everything that is wrong with it."""
    if stem in RESERVED_STEMS:
        allowed = "any name but " + ", ".join(RESERVED_STEMS)
        return [], [FileError(path=path, message=f"a policy file cannot be called `{stem}`", allowed=allowed)]
    policies: list[WrittenPolicy] = []
    errors: list[FileError] = []
    first: dict[str, int] = {}
    for number, (line, statement) in enumerate(_statements(text), start=1):
        if _is_too_deep(statement):
            errors.append(FileError(path=path, line=line, message=f"not read: it has {_TOO_DEEP}", allowed=_SPLIT))
            continue
        try:
            parsed = json.loads(cedarpy.policies_to_json_str(statement))
        except RecursionError:
            errors.append(FileError(path=path, line=line, message=f"not read: it has {_TOO_DEEP}", allowed=_SPLIT))
            continue
        except ValueError as error:
            where = line + _offset(statement, str(error))
            errors.append(FileError(path=path, line=where, message=f"not Cedar: {error}"))
            continue
        if parsed["templates"]:
            message = "a policy with `?principal` or `?resource` permits nothing by itself"
            errors.append(FileError(path=path, line=line, message=message, allowed='principal in Profile::"…"'))
            continue
        for est in parsed["staticPolicies"].values():
            name = est.get("annotations", {}).get("id") or str(number)
            if not _ID.fullmatch(name):
                message, allowed = f"the id `{name[:64]}` is not in the allowed form", _ID.pattern
                errors.append(FileError(path=path, line=line, message=message, allowed=allowed))
            if name in first:
                message = f"the id `{name}` is taken by the policy in line {first[name]}"
                errors.append(FileError(path=path, line=line, field=f"{stem}/{name}", message=message))
            first.setdefault(name, line)
            policies.append(WrittenPolicy(f"{stem}/{name}", est, statement, path, line))
    return policies, errors


def unusable(policy: WrittenPolicy) -> list[FileError]:
    """Why Cedar would not decide by it, nor by any other policy beside it, though it is sound Cedar."""
    try:
        cedarpy.PolicySet.from_json_str(policies_json({policy.id: policy.est}))
    except ValueError:
        return [policy.error(f"Cedar cannot decide by it: it has {_TOO_DEEP}", _SPLIT)]
    return []


def policies_json(policies: Mapping[str, Mapping[str, Any]]) -> str:
    """Policies by id, in Cedar's JSON form of a policy set."""
    return json.dumps({"templates": {}, "staticPolicies": policies, "templateLinks": []})


def validate(policy: WrittenPolicy, schema: cedarpy.Schema, allowed: str | None) -> list[FileError]:
    """What the schema says against ``policy``; ``allowed`` names the actions there are."""
    result = cedarpy.validate_policies(policy.text, schema)
    errors: list[FileError] = []
    for each in result.errors:
        message = re.sub(r"^for policy `[^`]*`, ", "", each.error)
        errors.append(policy.error(message, allowed if "action" in message else None))
    return errors


def mentioned(est: Any) -> Iterator[str]:
    """Every attribute name that a policy looks at: by access, by ``has``, or in a record that it compares with."""
    if isinstance(est, Mapping):
        if isinstance(attribute := est.get("attr"), str):
            yield attribute
        if isinstance(record := est.get("Record"), Mapping):
            yield from record
        for value in est.values():
            yield from mentioned(value)
    elif isinstance(est, list):
        for value in est:
            yield from mentioned(value)


def context_use(est: Any) -> Iterator[str | None]:
    """Each attribute of the context that a policy looks at; None where it uses the context as a whole."""
    if isinstance(est, list):
        for value in est:
            yield from context_use(value)
    elif isinstance(est, Mapping):
        if est == {"Var": "context"}:
            yield None
            return
        for key, value in est.items():
            if key in (".", "has") and value["left"] == {"Var": "context"}:
                yield value["attr"] if isinstance(value["attr"], str) else None
            else:
                yield from context_use(value)


def arguments_read(est: Any) -> Iterator[tuple[str, ...]]:
    """The path below ``context.args`` of everything that a policy reads there, or asks for by ``has``."""
    if isinstance(est, list):
        for value in est:
            yield from arguments_read(value)
    elif isinstance(est, Mapping):
        for key, value in est.items():
            if key in (".", "has") and (above := _below_args(value["left"])) is not None:
                yield (*above, str(value["attr"]))
            yield from arguments_read(value)


def tools_named(est: Mapping[str, Any]) -> frozenset[str] | None:
    """The tools that a policy's scope names one by one; None where it may be about others too."""
    scope = est.get("action", {})
    named = scope.get("entities", [scope.get("entity")])
    if scope.get("op") not in ("==", "in") or not all(isinstance(each, Mapping) and "id" in each for each in named):
        return None
    return frozenset(each["id"] for each in named)


def _below_args(est: Any) -> tuple[str, ...] | None:
    """The path from ``context.args`` to what ``est`` is; None where it begins elsewhere."""
    if not isinstance(est, Mapping) or not isinstance(access := est.get("."), Mapping):
        return None
    if access["left"] == {"Var": "context"}:
        return () if access["attr"] == "args" else None
    above = _below_args(access["left"])
    return None if above is None else (*above, str(access["attr"]))


def _is_too_deep(statement: str) -> bool:
    """Whether Cedar's parser may not be given it. Brackets in texts and comments are none."""
    depth = operators = 0
    for token in _NESTING.finditer(statement):
        match token.group()[0]:
            case "(" | "[" | "{":
                depth += 1
            case ")" | "]" | "}":
                depth -= 1
            case '"' | "/":
                continue
            case _:
                operators += 1
        if depth > _MOST_BRACKETS or operators > _MOST_OPERATORS:
            return True
    return False


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each policy's text with the line of its first token; what follows the last ``;`` too, if it says anything."""
    start = 0
    for token in _TOKEN.finditer(text):
        if token.group() == ";":
            yield _trimmed(text, start, token.end())
            start = token.end()
    line, rest = _trimmed(text, start, len(text))
    if rest:
        yield line, rest


def _trimmed(text: str, start: int, end: int) -> tuple[int, str]:
    """``text[start:end]`` without leading blanks and comments, and its line."""
    leading = re.compile(r"(?:\s+|//[^\n]*)*").match(text, start, end)
    begin = leading.end() if leading else start
    return text.count("\n", 0, begin) + 1, text[begin:end].rstrip()


def _offset(statement: str, message: str) -> int:
    """How many lines into the statement the name is that Cedar's message is about; 0 where it names none."""
    for named in reversed(_NAMED.findall(message)):
        words = _WORD.findall(named)
        if words and (found := re.search(rf"\b{re.escape(words[-1])}\b", statement)):
            return statement.count("\n", 0, found.start())
    return 0
