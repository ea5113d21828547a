"""Facts.

Declared read-only lookups whose answer may deny an action. Nothing is cached; what cannot be read denies.

A lookup is a call of a ``read`` tool, with arguments made from the action's. It carries no idempotency key,
since it is no action of its own.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any

from countersign_contracts.actions import Reason
from countersign_contracts.catalogue import Fact, Tool, ToolRecord
from countersign_contracts.errors import Unavailable
from countersign_contracts.templates import fill, fill_value

from .caller import Called, Caller
from .request import Endpoint, InvalidArguments
from .secrets import SecretWithheld
from .slots import Slots


class NoSuchValue(Exception):
    """The answer holds nothing at the fact's path."""


def value_at(answer: Any, path: str) -> Any:
    """The value at a dotted path; list items by their number. Raises :class:`NoSuchValue`."""
    value = answer
    for part in path.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise NoSuchValue(f"the lookup's answer has no `{path}`")
    return value


def same_json(left: Any, right: Any) -> bool:
    """Equality as JSON has it: ``true`` is not 1, and 1 is 1.0."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left == right and not math.isnan(left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_json, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(left[key], right[key]) for key in left)
    return type(left) is type(right) and bool(left == right)


def lookup_args(fact: Fact, args: Mapping[str, Any]) -> dict[str, Any]:
    """The lookup's arguments for an action's ``args``."""
    return {name: fill_value(template, args) for name, template in fact.args.items()}


def denial(fact: Fact, answer: Any, args: Mapping[str, Any]) -> Reason | None:
    """Why the fact denies the action, if it does; raises :class:`NoSuchValue`."""
    if not same_json(value_at(answer, fact.deny_when.path), fact.deny_when.equals):
        return None
    return Reason(code="fact", message=fill(fact.message, args)[:1000], policy=fact.name)


class Facts:
    """Looks facts up. ``tool_named`` gives the present catalogue entry."""

    def __init__(
        self,
        caller: Caller,
        slots: Slots,
        tool_named: Callable[[str], ToolRecord | None],
        count: Callable[[str], None],
    ) -> None:
        self._caller = caller
        self._slots = slots
        self._tool_named = tool_named
        self._count = count

    async def look_up(self, tool: Tool, args: Mapping[str, Any], traceparent: str | None = None) -> tuple[Reason, ...]:
        """The denials, in the order declared. Raises :class:`Unavailable` if any fact cannot be known."""
        found = await asyncio.gather(*(self._one(fact, args, traceparent) for fact in tool.facts))
        return tuple(reason for reason in found if reason is not None)

    async def _one(self, fact: Fact, args: Mapping[str, Any], traceparent: str | None) -> Reason | None:
        try:
            reason = denial(fact, await self._answer(fact, args, traceparent), args)
        except (NoSuchValue, InvalidArguments, SecretWithheld) as error:
            self._count("unavailable")
            raise Unavailable(f"fact `{fact.name}` cannot be known: {error}") from None
        except Unavailable:
            self._count("unavailable")
            raise
        self._count("denies" if reason else "passes")
        return reason

    async def _answer(self, fact: Fact, args: Mapping[str, Any], traceparent: str | None) -> Any:
        record = self._tool_named(fact.tool)
        if record is None or record.tool.effect != "read":
            raise Unavailable(f"fact `{fact.name}` cannot be known: the catalogue has no read tool `{fact.tool}`")
        tool = record.tool
        endpoint = Endpoint.of(tool.http)
        request = endpoint.request(lookup_args(fact, args))
        headers = self._caller.headers(tool, endpoint.host, idempotency_key=None, traceparent=traceparent)
        async with self._slots.one(endpoint.host):
            called: Called = await self._caller.call(tool, request, headers, _open)
        last = called.attempts[-1]
        if last.failure is not None or last.answer is None or last.answer.truncated:
            why = last.failure.message if last.failure else "its answer is longer than the tool's limit"
            raise Unavailable(f"fact `{fact.name}` cannot be known: `{tool.name}`: {why}")
        return last.answer.result


async def _open() -> None:
    """The gate of a lookup: it has no effect, and what it is for has not been claimed."""
