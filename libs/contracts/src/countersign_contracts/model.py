"""The base of every body on the bus: frozen, closed to unknown fields, and RFC 3339 times in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer, ValidationError

from .errors import Malformed


class Frozen(BaseModel):
    """A value that never changes after it was read; unknown fields are refused, so a typo never passes silently."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_bytes(self) -> bytes:
        """The JSON body as it goes on the bus and into the ledger: these bytes are signed, so keep them."""
        return self.model_dump_json(exclude_none=True).encode()

    @classmethod
    def from_bytes(cls, body: bytes, *, newer: bool = False) -> Self:
        """Read a body; raises :class:`Malformed` naming the first wrong field.

        ``newer``: a newer version may have written it, and fields that this one does not know are passed over.
        """
        try:
            return cls.model_validate_json(body, extra="ignore" if newer else None)
        except ValidationError as error:
            raise Malformed(f"{cls.__name__}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """One line for people from a validation error: where, and what is wrong (never the input itself)."""
    parts = [
        f"{'.'.join(str(p) for p in e['loc']) or 'body'}: {e['msg'].lower()}"
        for e in error.errors(include_url=False, include_input=False, include_context=False)[:5]
    ]
    return "; ".join(parts)


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time needs its zone, for example 2026-01-31T12:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time is outside of the years 1 to 9999 in UTC") from None


def rfc3339(value: datetime) -> str:
    """``2026-01-31T12:00:00.000000Z``: microseconds always, so that strings sort as times do."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


Time = Annotated[datetime, AfterValidator(_utc), PlainSerializer(rfc3339, return_type=str, when_used="json")]


def now() -> datetime:
    """The present, in UTC. Only shells call it; deciding code is handed the time."""
    return datetime.now(UTC)


def loads(raw: bytes | str) -> Any:
    """Parse JSON strictly (RFC 8259); raises :class:`Malformed` with the position."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error}") from None
