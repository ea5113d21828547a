"""A tool made ready for deciding: its arguments' validator, their Cedar type, its endpoint and its body fields.

A sensitive argument is valid sealed and not otherwise, and Cedar does not see it: its value is the executor's to read.
Compiled once per version of the tool. Not here: permission, risk, guardrails.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jsonschema_rs

from countersign_contracts.catalogue import Tool, ToolRecord
from countersign_contracts.schema_work import MOST_LOOKS_FOR_ERRORS, most_looks, values_in
from countersign_contracts.sensitive import read_marks, sealed_schema, shown_schema

from .cedar_types import CedarType, is_cedar_type, record_of

_MOST_ERRORS = 10
#: Stands in messages for the agent's value, which may be long or not for every reader's eyes.
_MASK = "the value"


@dataclass(frozen=True, slots=True)
class CompiledTool:
    """One version of a tool, ready to be asked about."""

    record: ToolRecord
    endpoint: str
    host: str
    args_type: CedarType
    validator: jsonschema_rs.Draft202012Validator | None
    looks: int
    unusable: str | None

    @property
    def tool(self) -> Tool:
        """The catalogue entry."""
        return self.record.tool

    def fields(self, args: Mapping[str, Any]) -> tuple[str, ...]:
        """The body fields among ``args``: everything that goes neither into the path nor into the query."""
        http = self.record.tool.http
        return tuple(sorted(name for name in args if name not in http.path and name not in http.query))

    def errors(self, args: Mapping[str, Any]) -> Iterator[str]:
        """What is wrong with ``args``, for people; the values themselves are not repeated."""
        if self.validator is None:
            yield f"the tool's own schema cannot be used: {self.unusable}"
            return
        try:
            if self.validator.is_valid(args):
                return
            if self.looks * values_in(args) > MOST_LOOKS_FOR_ERRORS:
                yield from self._first_error(self.validator, args)
                return
            for count, error in enumerate(self.validator.iter_errors(args)):
                if count == _MOST_ERRORS:
                    yield "and more"
                    return
                yield self._described(error)
        except ValueError as error:
            # nested beyond what the validator walks, or text that is no Unicode
            yield f"the arguments cannot be checked: {error}"

    def _first_error(self, validator: jsonschema_rs.Draft202012Validator, args: Mapping[str, Any]) -> Iterator[str]:
        try:
            validator.validate(args)
        except jsonschema_rs.ValidationError as error:
            yield self._described(error)
            yield "and maybe more: there are too many values to look for every error"

    def _described(self, error: jsonschema_rs.ValidationError) -> str:
        where = ".".join(str(part) for part in error.instance_path)
        text = f"`{where}`: {error.message}" if where else error.message
        if getattr(error.kind, "name", "") == "additionalProperties" and not where:
            text += f"; known: {', '.join(self.record.tool.arguments.get('properties', {}))}"
        return text


def compile_tool(record: ToolRecord) -> CompiledTool:
    """Make ``record`` ready. A schema that cannot be used makes every argument invalid, never valid."""
    validator: jsonschema_rs.Draft202012Validator | None = None
    unusable: str | None = None
    looks = 1
    arguments = record.tool.arguments
    marks, wrong = read_marks(arguments)
    if wrong:
        unusable = wrong[0].message
    else:
        try:
            looks = most_looks(arguments)
            travelling = sealed_schema(arguments, marks) if marks else arguments
            validator = jsonschema_rs.Draft202012Validator(travelling, validate_formats=True, offline=True, mask=_MASK)
        except (jsonschema_rs.ValidationError, ValueError) as error:
            unusable = str(error).splitlines()[0]
    args_type = record_of((shown_schema(arguments, marks) if marks else arguments) if validator else {})
    if not is_cedar_type(args_type):
        # a name that Cedar does not take: policies see none of this tool's arguments, and no other tool suffers
        args_type = record_of({})
    url = urlsplit(record.tool.http.url)
    return CompiledTool(
        record=record,
        endpoint=f"{record.tool.http.method} {(url.path or '/').replace(' ', '%20')}",
        host=url.hostname or "",
        args_type=args_type,
        validator=validator,
        looks=looks,
        unusable=unusable,
    )
