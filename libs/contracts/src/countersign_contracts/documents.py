"""Read declared files: YAML (or Cedar) text in, models and the line of everything out, or every error.

What a document means to its owner (does the tool exist, is the schema sound) is checked by the owner, who
reports with :meth:`Parsed.error`. No I/O: a :class:`Document` already carries its text.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, TypeAlias, Union, cast, get_args, get_origin

import orjson
from pydantic import BaseModel, StringConstraints, TypeAdapter, ValidationError

from .alert_rules import AlertRule
from .approval_rules import ApprovalRule, Webhook
from .catalogue import AgentDeclaration, Document, FileError, Profile, Tool
from .custom_roles import Role
from .model import Frozen
from .yaml_text import Loc, YamlProblem, YamlValue, read_yaml

Kind = Literal["tool", "profile", "agent", "policy", "approval_rule", "webhook", "alert_rule", "role"]
PolicyName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


class PolicyFile(Frozen):
    """A hand-written ``.cedar`` file; its name is the file's, without directory and suffix."""

    kind: Literal["policy"] = "policy"
    name: PolicyName
    text: str


Declared: TypeAlias = Tool | Profile | AgentDeclaration | PolicyFile | ApprovalRule | Webhook | AlertRule | Role

_MODELS: Mapping[str, type[Tool | Profile | AgentDeclaration | ApprovalRule | Webhook | AlertRule | Role]] = {
    "agent": AgentDeclaration,
    "alert_rule": AlertRule,
    "approval_rule": ApprovalRule,
    "profile": Profile,
    "role": Role,
    "tool": Tool,
    "webhook": Webhook,
}
_POLICY_NAME: TypeAdapter[str] = TypeAdapter(PolicyName)


@dataclass(frozen=True, slots=True)
class Parsed:
    """One declared thing and where its author wrote it. Lines count from 1."""

    path: str
    kind: Kind
    name: str
    model: Declared
    line: int
    lines: Mapping[Loc, int] = field(repr=False)

    def line_of(self, loc: Loc) -> int:
        """The line of ``loc``, e.g. ``("guardrails", 0, "timezone")``, or of the nearest thing around it."""
        return _line(self.lines, loc, self.line)

    def error(self, loc: Loc, message: str, allowed: str | None = None) -> FileError:
        """An error about ``loc``; ``allowed`` tells the author what would be right."""
        return FileError(
            path=self.path,
            line=self.line_of(loc),
            field=_dotted(loc),
            message=message,
            allowed=allowed,
        )


@dataclass(frozen=True, slots=True)
class FileErrors:
    """A file that could not be read: everything that is wrong with it."""

    errors: tuple[FileError, ...]


def read_document(document: Document) -> list[Parsed] | FileErrors:
    """What one file declares, in order, or everything that is wrong with it.

    ``.cedar`` files hold Cedar, which is not parsed here; ``.yaml`` and ``.yml`` files hold one or more YAML
    documents, each with a ``kind``.
    """
    path = PurePosixPath(document.path.replace("\\", "/"))
    if path.suffix == ".cedar":
        return _policy(document, path.stem)
    if path.suffix not in (".yaml", ".yml"):
        return _failed(document, None, f"a file ending in `{path.suffix}` is not read", allowed=".yaml, .yml, .cedar")
    try:
        values = read_yaml(document.text)
    except YamlProblem as problem:
        return _failed(document, problem.line, problem.message, problem.allowed)
    parsed: list[Parsed] = []
    errors: list[FileError] = []
    for value in values:
        one = _read_one(document, value)
        if isinstance(one, Parsed):
            parsed.append(one)
        else:
            errors += one
    return FileErrors(tuple(errors)) if errors else parsed


def read_documents(documents: Iterable[Document]) -> tuple[list[Parsed], list[FileError]]:
    """What all the files of a change declare, and every error; nothing may be declared twice."""
    parsed: list[Parsed] = []
    errors: list[FileError] = []
    for document in documents:
        one = read_document(document)
        if isinstance(one, FileErrors):
            errors += one.errors
        else:
            parsed += one
    first: dict[tuple[Kind, str], Parsed] = {}
    for item in parsed:
        earlier = first.setdefault((item.kind, item.name), item)
        if earlier is not item:
            where = f"{earlier.path}:{earlier.line}"
            errors.append(item.error(("name",), f"{item.kind} `{item.name}` is declared twice; first in {where}"))
    return parsed, errors


def _policy(document: Document, stem: str) -> list[Parsed] | FileErrors:
    try:
        _POLICY_NAME.validate_python(stem)
    except ValidationError:
        allowed = "letters, digits, `.`, `_`, `-`; at most 128"
        return _failed(document, None, f"the file name `{stem}` cannot name a policy", allowed)
    model = PolicyFile(name=stem, text=document.text)
    return [Parsed(document.path, "policy", stem, model, 1, {(): 1})]


def _read_one(document: Document, value: YamlValue) -> Parsed | tuple[FileError, ...]:
    def wrong(loc: Loc, message: str, allowed: str | None) -> FileError:
        line = _line(value.lines, loc, value.line)
        return FileError(path=document.path, line=line, field=_dotted(loc), message=message, allowed=allowed)

    kinds = ", ".join(_MODELS)
    if not isinstance(value.data, dict):
        return (wrong((), "a document is a mapping that starts with `kind`", f"kind: {kinds}"),)
    kind = value.data.get("kind")
    model = _MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        what = "`kind` is missing" if "kind" not in value.data else f"kind {_shown(kind)} is unknown"
        return (wrong(("kind",), what, kinds),)
    try:
        # strict, and through JSON: "yes" is no boolean and "5" no number, while a sequence is a tuple
        declared = model.model_validate_json(orjson.dumps(value.data), strict=True)
    except ValidationError as error:
        return tuple(wrong(*_described(model, dict(e))) for e in error.errors(include_url=False, include_input=False))
    name = declared.agent_id if isinstance(declared, AgentDeclaration) else declared.name
    return Parsed(document.path, cast(Kind, kind), name, declared, value.line, value.lines)


def _described(model: type[BaseModel], error: dict[str, Any]) -> tuple[Loc, str, str | None]:
    """Where, what is wrong, and what is allowed, from one pydantic error."""
    loc: Loc = tuple(error["loc"])
    context: Mapping[str, Any] = error.get("ctx", {})
    last = loc[-1] if loc else "document"
    match error["type"]:
        case "extra_forbidden":
            fields = _fields_at(model, loc[:-1])
            close = difflib.get_close_matches(str(last), fields, n=1)
            hint = f"; did you mean `{close[0]}`?" if close else ""
            return loc, f"`{last}` is not a field here{hint}", ", ".join(fields) or None
        case "missing":
            return loc, f"`{last}` is missing", None
        case "literal_error":
            return loc, "not one of the allowed values", str(context.get("expected"))
        case "string_pattern_mismatch":
            return loc, "not in the allowed form", f"text matching {context.get('pattern')}"
        case "value_error":
            return loc, str(context.get("error")), None
        case _:
            return loc, str(error["msg"]).lower(), None


def _fields_at(model: type[BaseModel], loc: Loc) -> Sequence[str]:
    """The field names of the model that stands at ``loc`` below ``model``."""
    at: Any = model
    for part in loc:
        at = _inner(at, part)
    found = _model_in(at)
    return [] if found is None else [f.alias or name for name, f in found.model_fields.items()]


def _inner(annotation: Any, part: str | int) -> Any:
    found = _model_in(annotation)
    if found is not None:
        named = {f.alias or name: f.annotation for name, f in found.model_fields.items()}
        return named.get(str(part))
    for option in _options(annotation):
        origin, arguments = get_origin(option), get_args(option)
        if origin is tuple and isinstance(part, int):
            return arguments[0]
        if origin is dict and isinstance(part, str):
            return arguments[1]
    return None


def _model_in(annotation: Any) -> type[BaseModel] | None:
    for option in _options(annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _options(annotation: Any) -> Sequence[Any]:
    """The alternatives of a union; else the annotation itself."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _line(lines: Mapping[Loc, int], loc: Loc, start: int) -> int:
    for length in range(len(loc), -1, -1):
        if loc[:length] in lines:
            return lines[loc[:length]]
    return start


def _dotted(loc: Loc) -> str | None:
    return ".".join(str(part) for part in loc if part != "[key]") or None


def _shown(value: Any) -> str:
    return f"`{value}`" if isinstance(value, str) and len(value) <= 64 else "given"


def _failed(document: Document, line: int | None, message: str, allowed: str | None) -> FileErrors:
    return FileErrors((FileError(path=document.path, line=line, message=message, allowed=allowed),))
