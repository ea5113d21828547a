"""Sealed arguments opened, right before the request is built: the only place where their values are.

A box opens for the action, the tool and the argument it was sealed for, and nowhere else. What was opened is checked
against the tool's schema, which nobody could do before. No message here repeats a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema_rs

from countersign_chassis.sealing import NotOpened, OpenKeys
from countersign_contracts.actions import Action
from countersign_contracts.catalogue import ToolRecord
from countersign_contracts.errors import Malformed
from countersign_contracts.schema_work import MOST_LOOKS_FOR_ERRORS, TooMuchWork, most_looks, values_in
from countersign_contracts.sealed import KEY, Place, box_of, pointer, value_for
from countersign_contracts.sensitive import Marks, read_marks

from .admission import refuse
from .masking import texts_of
from .request import HttpRequest

_SEALED_FIELD = f'"{KEY}":'.encode()


@dataclass(frozen=True, slots=True)
class Opened:
    """Arguments to build the request of, and the texts that may not come back from it; None: nothing is sensitive."""

    args: Mapping[str, Any] = field(repr=False)
    texts: tuple[str, ...] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _Read:
    """What is sensitive in a version of a tool, and its schema made ready."""

    version: int
    marks: Marks
    schema: jsonschema_rs.Draft202012Validator | None
    looks: int


class Opening:
    """Opens what the gateway sealed; a tool is read once for each version."""

    def __init__(self, keys: OpenKeys) -> None:
        self._keys = keys
        self._tools: dict[str, _Read] = {}

    def open(self, action: Action, record: ToolRecord) -> Opened:
        """The arguments in the clear; the action's own where none is sensitive.

        Raises :class:`.admission.RefusedAction` for a box that was altered or moved, for a sensitive value that came
        in the clear, and for one that does not fit the schema.
        """
        read = self._read(record)
        if not read.marks:
            return Opened(action.args)
        texts: list[str] = []
        args = self._object(action.args, read.marks, (), action, texts)
        if read.schema is None or not read.schema.is_valid(args):
            raise refuse("invalid_arguments", _misfit(read, args))
        return Opened(args, tuple(dict.fromkeys(texts)))

    def _object(
        self, value: Mapping[str, Any], marks: Marks, above: tuple[str, ...], action: Action, texts: list[str]
    ) -> dict[str, Any]:
        opened: dict[str, Any] = {}
        for name, each in value.items():
            if name in marks.sensitive:
                opened[name] = self._value(each, pointer(*above, name), action)
                texts += texts_of(opened[name])
            elif name in marks.within and isinstance(each, dict):
                opened[name] = self._object(each, marks.within[name], (*above, name), action, texts)
            else:
                opened[name] = each
        return opened

    def _value(self, value: Any, path: str, action: Action) -> Any:
        box = box_of(value)
        if box is None:
            raise refuse("sealed", f"`{path}` is sensitive and did not come sealed")
        sealed_for = action.sealed_for or action.request_id
        try:
            return value_for(self._keys.open(box), Place(sealed_for, action.agent_id, action.tool, path))
        except (NotOpened, Malformed) as error:
            raise refuse("sealed", f"`{path}` cannot be opened: {error}") from None

    def _read(self, record: ToolRecord) -> _Read:
        read = self._tools.get(record.tool.name)
        if read is None or read.version != record.version:
            marks, wrong = read_marks(record.tool.arguments)
            if wrong:
                raise refuse("sealed", f"`{record.tool.name}` marks sensitive arguments as no tool can: apply it again")
            schema, looks = None, 1
            if marks:
                looks = _looks(record)
                schema = jsonschema_rs.Draft202012Validator(
                    record.tool.arguments, validate_formats=True, offline=True, mask="the value"
                )
            read = self._tools[record.tool.name] = _Read(record.version, marks, schema, looks)
        return read


def require_opened(request: HttpRequest) -> None:
    """Raises :class:`.admission.RefusedAction` if something sealed stands where nothing would open it."""
    if request.body is not None and _SEALED_FIELD in request.body:
        raise refuse("sealed", "a sealed value stands in an argument that is not sensitive")


def _looks(record: ToolRecord) -> int:
    try:
        return most_looks(record.tool.arguments)
    except TooMuchWork as error:
        raise refuse("sealed", f"the schema of `{record.tool.name}` cannot be used: {error}") from None


def _errors(
    schema: jsonschema_rs.Draft202012Validator, args: Mapping[str, Any], *, every: bool
) -> Iterator[jsonschema_rs.ValidationError]:
    """Every error, or the first."""
    if every:
        yield from schema.iter_errors(args)
        return
    try:
        schema.validate(args)
    except jsonschema_rs.ValidationError as error:
        yield error


def _misfit(read: _Read, args: Mapping[str, Any]) -> str:
    """Which arguments do not fit: their places and the keywords, since names within a value may be sensitive too."""
    if read.schema is None:
        return "the tool's own schema cannot be used"
    found = []
    for error in _errors(read.schema, args, every=read.looks * values_in(args) <= MOST_LOOKS_FOR_ERRORS):
        place, marks = [], read.marks
        for name in map(str, error.instance_path):
            place.append(name)
            if name not in marks.within:
                break
            marks = marks.within[name]
        keyword = next((part for part in reversed(error.schema_path) if isinstance(part, str)), "schema")
        found.append(f"`{pointer(*place)}` does not fit the tool's schema ({keyword})")
    return "; ".join(dict.fromkeys(found[:10]))
