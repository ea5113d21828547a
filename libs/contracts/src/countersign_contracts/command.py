"""The base of every command: one service asks another by NATS request-reply, in a signed envelope.

The reply is a plain JSON object: ``{"ok": …}`` with the command's reply model, or ``{"problem": …}`` (RFC 9457).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import orjson
from pydantic import ValidationError

from .errors import CountersignError, Malformed
from .model import Frozen, explain, loads

R = TypeVar("R", bound=Frozen)


@dataclass(frozen=True, slots=True)
class Rpc:
    """Who answers (``service``), what is asked (``verb``), and which services may ask."""

    service: str
    verb: str
    callers: tuple[str, ...] = ("gateway",)
    timeout_s: float = 5.0

    @property
    def subject(self) -> str:
        """The NATS subject in account CORE."""
        return f"rpc.{self.service}.{self.verb}"

    @property
    def type(self) -> str:
        """The CloudEvents type that the caller's key must be entitled to."""
        return f"countersign.command.{self.service}.{self.verb}.v1"


#: type -> command class, filled as the classes are defined.
COMMANDS: dict[str, type[Command]] = {}


class Command(Frozen):
    """A request in the imperative. ``reply`` is what a success answers."""

    rpc: ClassVar[Rpc]
    reply: ClassVar[type[Frozen]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "rpc" in cls.__dict__:
            COMMANDS[cls.rpc.type] = cls


class Done(Frozen):
    """Nothing to say but that it is done."""


_OK = b'{"ok":'


def reply_bytes(value: Frozen) -> bytes:
    """The body of a successful reply."""
    return _OK + value.to_bytes() + b"}"


def passed_on(body: bytes) -> bytes | None:
    """What :func:`reply_bytes` was given, if these are its bytes; None where the reply has to be read."""
    return body[len(_OK) : -1] if body.startswith(_OK) and body.endswith(b"}") else None


def problem_bytes(error: CountersignError) -> bytes:
    """The body of a refusal."""
    return orjson.dumps({"problem": error.problem()})


def read_reply(body: bytes, model: type[R]) -> R:
    """The reply; raises the :class:`CountersignError` that was answered, or :class:`Malformed` if it is neither."""
    value = loads(body)
    if not isinstance(value, dict):
        raise Malformed("a reply is an object with `ok` or `problem`")
    try:
        if "problem" in value:
            raise CountersignError.from_problem(value["problem"])
        return model.model_validate(value.get("ok"))
    except (ValidationError, AttributeError) as error:
        reason = explain(error) if isinstance(error, ValidationError) else "`problem` is not an object"
        raise Malformed(f"the reply is no {model.__name__}: {reason}") from None
