"""Sealing what is sensitive in an action's arguments, before anything of it is stored or said.

In the clear travels only what the tool's version, which the action names, declares and does not mark. Of a tool or an
argument that is not declared (here, yet) only the name travels: nobody said whether the value is sensitive, and policy
denies the action in any case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from countersign_chassis.sealing import DigestKey, SealKey
from countersign_contracts.catalogue import ToolRecord
from countersign_contracts.errors import CountersignError
from countersign_contracts.sealed import Place, box_text, mark_text, pointer, sealed, withheld
from countersign_contracts.sensitive import Marks, read_marks

_NOTHING_DECLARED = Marks()


class Sealing:
    """Seals to the executor's key; what is sensitive is read off each version of a tool once."""

    def __init__(self, key: SealKey, digests: DigestKey) -> None:
        self._key = key
        self._digests = digests
        self._marks: dict[str, tuple[int, Marks]] = {}

    def travelling(
        self, args: dict[str, Any], record: ToolRecord | None, *, request_id: str, agent_id: str, tool: str
    ) -> dict[str, Any]:
        """The arguments as they travel and rest; the same object where nothing is to be hidden.

        Raises `malformed`, without the value, where a sensitive one has no canonical form.
        """
        marks = self._marks_of(record)
        if not marks and args.keys() <= marks.declared:
            return args
        return self._object(args, marks, (), lambda path: Place(request_id, agent_id, tool, path))

    def require_unqueued(self, args: dict[str, Any], record: ToolRecord | None) -> None:
        """Raises `invalid` if something in ``args`` is sensitive: in the stream it came through it was readable."""
        if (marks := self._marks_of(record)) and (found := ", ".join(_given(args, marks, ()))):
            raise CountersignError(
                f"{found}: sensitive, and what is queued rests on the bus as it was sent; send it with a call"
                " (agents.<id>.call; in the SDK `call`, or `submit` with `queued=False`) or over HTTP,"
                " and treat what you queued as known to whoever can read the bus's disk",
                code="invalid",
            )

    def request_digest(self, text: bytes) -> bytes:
        """By what a repeated request is known again: keyed, so that no value in it can be guessed."""
        return self._digests.digest("request", text)

    def _object(self, value: Mapping[str, Any], marks: Marks, above: tuple[str, ...], place: Any) -> dict[str, Any]:
        travelling: dict[str, Any] = {}
        for name, each in value.items():
            if name in marks.sensitive:
                travelling[name] = self._sealed(each, place(pointer(*above, name)))
            elif name in marks.within and isinstance(each, dict):
                travelling[name] = self._object(each, marks.within[name], (*above, name), place)
            elif name in marks.declared and name not in marks.within:
                travelling[name] = each
            else:
                mark_text(each, place(pointer(*above, name)))  # refused like any argument without a canonical form
                travelling[name] = withheld()
        return travelling

    def _sealed(self, value: Any, place: Place) -> dict[str, Any]:
        mark = self._digests.digest("mark", mark_text(value, place))
        return sealed(self._key.seal(box_text(value, place)), mark)

    def _marks_of(self, record: ToolRecord | None) -> Marks:
        if record is None:
            return _NOTHING_DECLARED
        version, marks = self._marks.get(record.tool.name, (0, _NOTHING_DECLARED))
        if version != record.version:
            marks, wrong = read_marks(record.tool.arguments)
            if wrong:  # refused when it is applied; what came into the catalogue otherwise is not trusted
                marks = _NOTHING_DECLARED
            self._marks[record.tool.name] = (record.version, marks)
        return marks


def _given(args: Mapping[str, Any], marks: Marks, above: tuple[str, ...]) -> Iterator[str]:
    """The places of sensitive values, as JSON Pointers."""
    for name, each in args.items():
        if name in marks.sensitive:
            yield f"`{pointer(*above, name)}`"
        elif name in marks.within and isinstance(each, dict):
            yield from _given(each, marks.within[name], (*above, name))
