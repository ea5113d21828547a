"""How much work a JSON Schema makes of a value. Pure.

References that multiply make a short schema look at one value a million times: whoever checks values by it would stand
still for minutes. So how many of a schema's parts may look at one value is counted before the schema is taken, and
values nest no deeper than the gateway lets in. The count is an upper bound: each keyword is taken to apply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

#: How many parts of a schema may look at one value.
MOST_LOOKS = 2000
#: How many looks it may take to find every error: an error costs far more than a look, and all are found before one is
#: handed out. Beyond, the first one has to do.
MOST_LOOKS_FOR_ERRORS = 2000
#: How deep arguments may nest, which the gateway sees to. Deeper is never a real call, and recursion on it costs
#: everybody downstream.
DEEPEST = 24

_SAME = ("not", "if", "then", "else")
#: `dependencies` is of drafts before 2019-09.
_SAME_SEVERAL = ("allOf", "anyOf", "oneOf", "dependentSchemas", "dependencies")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_OF_ANY_MEMBER = ("additionalProperties", "unevaluatedProperties", "propertyNames")
_OF_ANY_ITEM = ("additionalItems", "unevaluatedItems", "contains")
#: What others have looked at already is found out by looking again.
_AGAIN = ("unevaluatedProperties", "unevaluatedItems")
_LEAF = object()


class TooMuchWork(ValueError):
    """The schema is not taken; the message says why, for people."""


def most_looks(schema: Mapping[str, Any]) -> int:
    """How many parts of ``schema`` may look at one value; raises :class:`TooMuchWork` beyond :data:`MOST_LOOKS`."""
    parts = _Reader(schema).parts
    order = _those_beneath_first(parts)
    # by how deep the values nest that are looked at: what stands within them is looked at by the layer before
    before, again = dict.fromkeys(parts, 0), _looking_again(parts, order)
    for _ in range(DEEPEST + 1):
        now: dict[int, int] = {}
        for key in order:
            part = parts[key]
            now[key] = _bounded(1 + again[key] + sum(now[each] for each in part.same) + part.looks_within(before))
        if now == before:
            break
        before = now
    return before[id(schema)]


def _bounded(count: int) -> int:
    if count > MOST_LOOKS:
        raise TooMuchWork(
            f"more than {MOST_LOOKS} of its parts could look at one value: references or combinations multiply"
        )
    return count


def values_in(value: Any) -> int:
    """How many values there are in it, itself included."""
    return sum(map(len, _levels(value)))


def levels_of(value: Any) -> int:
    """How deep it nests; one that holds no others has one level."""
    return sum(1 for _ in _levels(value))


def _levels(value: Any) -> Iterator[list[Any]]:
    level = [value]
    while level:
        yield level
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())
        ]


@dataclass(slots=True)
class _Part:
    """A part of the schema, by the other parts (their ids) that look at the same value, at a member, or at an item."""

    again: bool = False
    same: list[int] = field(default_factory=list)
    one_of_members: list[int] = field(default_factory=list)
    any_member: list[int] = field(default_factory=list)
    one_of_items: list[int] = field(default_factory=list)
    any_item: list[int] = field(default_factory=list)

    def looks_within(self, counts: Mapping[int, int]) -> int:
        """How many look at one member or item."""
        return max(
            max((counts[each] for each in self.one_of_members), default=0)
            + sum(counts[each] for each in self.any_member),
            max((counts[each] for each in self.one_of_items), default=0) + sum(counts[each] for each in self.any_item),
        )


class _Reader:
    """Reads a schema into :class:`_Part`, as far as it is reached. What is no schema counts as one part."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._anchors = dict(_anchors(root))
        self.parts: dict[int, _Part] = {}
        self._unread: list[Mapping[str, Any]] = []
        self._key(root)
        while self._unread:
            schema = self._unread.pop()
            self._read(schema, self.parts[id(schema)])

    def _key(self, schema: Any) -> int:
        if not isinstance(schema, Mapping):
            self.parts.setdefault(id(_LEAF), _Part())
            return id(_LEAF)
        if id(schema) not in self.parts:
            if "$id" in schema and schema is not self._root:
                raise TooMuchWork("a schema within a schema has no `$id` of its own here")
            self.parts[id(schema)] = _Part()
            self._unread.append(schema)
        return id(schema)

    def _keys(self, schemas: Any) -> list[int]:
        each = schemas.values() if isinstance(schemas, Mapping) else schemas if isinstance(schemas, list) else ()
        return [self._key(schema) for schema in each]

    def _read(self, schema: Mapping[str, Any], part: _Part) -> None:
        part.again = any(keyword in schema for keyword in _AGAIN)
        part.same = [self._key(schema[keyword]) for keyword in _SAME if keyword in schema]
        for keyword in _SAME_SEVERAL:
            part.same += self._keys(schema.get(keyword))
        for keyword in _REFERENCES:
            if isinstance(schema.get(keyword), str):
                part.same.append(self._key(self._meant(schema[keyword])))
        part.one_of_members = self._keys(schema.get("properties"))
        part.any_member = self._keys(schema.get("patternProperties"))
        part.any_member += [self._key(schema[keyword]) for keyword in _OF_ANY_MEMBER if keyword in schema]
        part.one_of_items = self._keys(schema.get("prefixItems"))
        part.any_item = [self._key(schema[keyword]) for keyword in _OF_ANY_ITEM if keyword in schema]
        if isinstance(items := schema.get("items"), list):
            part.one_of_items += self._keys(items)
        elif "items" in schema:
            part.any_item.append(self._key(items))

    def _meant(self, reference: str) -> Any:
        """What it refers to; nothing, where that is for who makes the validator to find out."""
        fragment = unquote(reference.removeprefix("#"))
        if fragment and not fragment.startswith("/"):
            return self._anchors.get(fragment)
        at: Any = self._root
        for step in fragment.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(at, list) and name.isdecimal() and int(name) < len(at):
                at = at[int(name)]
            else:
                at = at.get(name) if isinstance(at, Mapping) else None
        return at


def _looking_again(parts: Mapping[int, _Part], order: Sequence[int]) -> dict[int, int]:
    """How many parts look at the value again, and a third time, to see what of it nobody has looked at yet."""
    found: dict[int, int] = {}
    looks: dict[int, int] = {}
    for key in order:
        once = sum(looks[each] for each in parts[key].same)
        found[key] = 2 * once if parts[key].again else 0
        looks[key] = _bounded(1 + once + found[key])
    return found


def _those_beneath_first(parts: Mapping[int, _Part]) -> list[int]:
    """Every part after those that look at the same value for it."""
    order: list[int] = []
    done: set[int] = set()
    for start in parts:
        way: list[tuple[int, Iterator[int]]] = [] if start in done else [(start, iter(parts[start].same))]
        on_way = {start}
        while way:
            key, rest = way[-1]
            if (beneath := next((each for each in rest if each not in done), None)) is None:
                way.pop()
                on_way.discard(key)
                done.add(key)
                order.append(key)
            elif beneath in on_way:
                raise TooMuchWork("it refers to itself, for the same value, without end")
            else:
                on_way.add(beneath)
                way.append((beneath, iter(parts[beneath].same)))
    return order


def _anchors(root: Any) -> Iterator[tuple[str, Any]]:
    unread = [root]
    while unread:
        part = unread.pop()
        if isinstance(part, Mapping):
            yield from ((part[key], part) for key in ("$anchor", "$dynamicAnchor") if isinstance(part.get(key), str))
            unread.extend(part.values())
        elif isinstance(part, list):
            unread.extend(part)
