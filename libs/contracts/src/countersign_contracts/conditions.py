"""Conditions on an action's arguments, as declared in files."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from .model import Frozen

ArgumentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class Condition(Frozen):
    """A condition on one argument: exactly one of ``equals``, ``in``, ``at_least`` and ``present``."""

    model_config = ConfigDict(serialize_by_alias=True)

    field: ArgumentName
    equals: Any = None
    in_: tuple[Any, ...] | None = Field(default=None, alias="in")
    at_least: float | None = None
    present: bool | None = None

    @model_validator(mode="after")
    def _one(self) -> Condition:
        if len(self.model_fields_set - {"field"}) != 1:
            raise ValueError("a condition has exactly one of `equals`, `in`, `at_least`, `present`")
        return self

    def holds(self, args: dict[str, Any]) -> bool:
        """Whether ``args`` meet the condition; an absent argument meets only ``present: false``."""
        if self.present is not None:
            return (self.field in args) is self.present
        if self.field not in args:
            return False
        value = args[self.field]
        if self.in_ is not None:
            return value in self.in_
        if self.at_least is not None:
            return isinstance(value, int | float) and not isinstance(value, bool) and value >= self.at_least
        return bool(value == self.equals)
