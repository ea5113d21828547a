"""Read untrusted YAML text into JSON values and the line of each: bounded in depth, size and aliases.

Scalars follow the YAML 1.2 core schema (YAML 1.2.2, section 10.3), since under YAML 1.1 ``09:30`` is the
number 570 and ``no`` is false. Refused: duplicate keys, keys that are not text, tags, and numbers that JSON
cannot carry. It knows nothing of what the values mean; see :mod:`.documents`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

MAX_DEPTH = 48
MAX_NODES = 50_000

Loc: TypeAlias = tuple[str | int, ...]

_NULL = re.compile(r"|~|null|Null|NULL")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCT = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_JSON = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_BIGGEST = 2**63 - 1
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlProblem(Exception):
    """The text is not YAML that is read here. ``line`` counts from 1."""

    def __init__(self, line: int | None, message: str, allowed: str | None = None) -> None:
        super().__init__(message)
        self.line = line
        self.message = message
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class YamlValue:
    """One YAML document: its value, the line it starts at, and the line of everything inside."""

    data: Any
    line: int
    lines: dict[Loc, int]


@dataclass(slots=True)
class _Open:
    """A collection that is being read."""

    data: dict[str, Any] | list[Any]
    loc: Loc
    line: int
    nodes_before: int
    anchor: str | None
    key: str | None = None

    def takes_key(self) -> bool:
        return isinstance(self.data, dict) and self.key is None


@dataclass(slots=True)
class _Reader:
    """Builds the values of one text from its events; nothing recurses, so depth cannot exhaust the stack."""

    nodes: int = 0
    root: Any = None
    lines: dict[Loc, int] = field(default_factory=dict)
    stack: list[_Open] = field(default_factory=list)
    #: anchor -> value and how many nodes it stands for, itself expanded
    anchors: dict[str, tuple[Any, int]] = field(default_factory=dict)

    def start(self, data: dict[str, Any] | list[Any], event: yaml.CollectionStartEvent, line: int) -> None:
        if len(self.stack) >= MAX_DEPTH:
            raise YamlProblem(line, "nested too deeply", f"at most {MAX_DEPTH} levels")
        loc = self._place(data, line)
        self.stack.append(_Open(data, loc, line, self.nodes, event.anchor))

    def end(self) -> None:
        done = self.stack.pop()
        if done.anchor:
            self.anchors[done.anchor] = (done.data, self.nodes - done.nodes_before + 1)

    def scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        if self.stack and self.stack[-1].takes_key():
            self._key(event, line)
            return
        value = _scalar(event, line)
        self._place(value, line)
        if event.anchor:
            self.anchors[event.anchor] = (value, 1)

    def alias(self, name: str | None, line: int) -> None:
        if name is None or name not in self.anchors:
            raise YamlProblem(line, f"`*{name}` names no anchor that is complete here")
        value, nodes = self.anchors[name]
        if self.stack and self.stack[-1].takes_key():
            raise YamlProblem(line, "an alias cannot be a key")
        self._count(nodes - 1, line)
        self._place(value, line)

    def _key(self, event: yaml.ScalarEvent, line: int) -> None:
        top = self.stack[-1]
        key = _scalar(event, line)
        if not isinstance(key, str):
            raise YamlProblem(line, f"the key `{event.value}` is not text", "put it in quotes")
        if key in top.data:
            first = self.lines[(*top.loc, key)]
            raise YamlProblem(line, f"the key `{key}` is given twice; first in line {first}")
        self._count(1, line)
        self.lines[(*top.loc, key)] = line
        top.key = key

    def _place(self, value: Any, line: int) -> Loc:
        self._count(1, line)
        if not self.stack:
            self.root = value
            self.lines[()] = line
            return ()
        top = self.stack[-1]
        if isinstance(top.data, list):
            loc: Loc = (*top.loc, len(top.data))
            top.data.append(value)
            self.lines[loc] = line
            return loc
        if top.key is None:
            raise YamlProblem(line, "a collection cannot be a key")
        loc = (*top.loc, top.key)
        top.data[top.key] = value
        top.key = None
        return loc

    def _count(self, nodes: int, line: int) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise YamlProblem(line, "too many values, aliases counted at each use", f"at most {MAX_NODES}")


def read_yaml(text: str) -> list[YamlValue]:
    """Every document in ``text`` that is not empty; raises :class:`YamlProblem` at the first problem."""
    values: list[YamlValue] = []
    nodes = 0
    reader = _Reader()
    line = 1
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            line = event.start_mark.line + 1 if event.start_mark else line
            match event:
                case yaml.DocumentStartEvent():
                    reader = _Reader(nodes)
                case yaml.MappingStartEvent():
                    _no_tag(event, line)
                    reader.start({}, event, line)
                case yaml.SequenceStartEvent():
                    _no_tag(event, line)
                    reader.start([], event, line)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    reader.end()
                case yaml.ScalarEvent():
                    reader.scalar(event, line)
                case yaml.AliasEvent():
                    reader.alias(event.anchor, line)
                case yaml.DocumentEndEvent():
                    nodes = reader.nodes
                    if reader.root is not None:
                        values.append(YamlValue(reader.root, reader.lines[()], reader.lines))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = error.problem or error.context or "unreadable"
        raise YamlProblem(mark.line + 1 if mark else line, f"not YAML: {what}") from None
    except (yaml.YAMLError, UnicodeEncodeError):
        # the reader's own refusal, which carries no line
        raise YamlProblem(_unprintable_line(text), "not YAML: a character that may not stand in it") from None
    return values


def _scalar(event: yaml.ScalarEvent, line: int) -> Any:
    _no_tag(event, line)
    text = str(event.value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise YamlProblem(line, "half of a surrogate pair is no text") from None
    if not event.implicit[0]:  # quoted or block: text as it stands
        return text
    return _plain(text, line)


def _plain(text: str, line: int) -> Any:
    """A plain scalar by the core schema."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return bool(_TRUE.fullmatch(text))
    if _NOT_JSON.fullmatch(text):
        raise YamlProblem(line, f"`{text}` is no number in JSON")
    for form, base in ((_INT, 10), (_OCT, 8), (_HEX, 16)):
        if form.fullmatch(text):
            # by length first: converting thousands of digits is refused by Python itself
            if len(text) > 40 or abs(int(text, base)) > _BIGGEST:
                raise YamlProblem(line, "the number is too large", "64 bits; or text in quotes")
            return int(text, base)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if number in (float("inf"), float("-inf")):
            raise YamlProblem(line, "the number is too large", "about 1.8e308; or text in quotes")
        return number
    return text


def _no_tag(event: yaml.ScalarEvent | yaml.CollectionStartEvent, line: int) -> None:
    if event.tag is not None and event.tag != "!":
        raise YamlProblem(line, f"the tag `{event.tag}` is not read", "plain values")


def _unprintable_line(text: str) -> int | None:
    found = yaml.reader.Reader.NON_PRINTABLE.search(text)
    return text.count("\n", 0, found.start()) + 1 if found else None
