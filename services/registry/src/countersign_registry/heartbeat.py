"""What an agent says of itself in a heartbeat. Pure.

Read loosely: every field may be absent, and unknown ones are dropped, so that an older registry takes a newer SDK's.
Whose heartbeat it is stands in the subject, which nats-server has checked, never in the body.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from countersign_contracts.errors import CountersignError, Malformed
from countersign_contracts.model import explain, loads

MAX_BYTES = 4096


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("text that can be printed")
    return text


Label = Annotated[str, StringConstraints(max_length=64, strict=True), AfterValidator(_printable)]
Amount = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class Heartbeat(BaseModel):
    """The fields that are kept."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: Label | None = None
    version: Label | None = None
    uptime_s: Amount | None = None
    load: Amount | None = Field(default=None, description="of the agent, in its own unit: 1 is full")


def read(body: bytes) -> dict[str, Any]:
    """The fields that are kept of a heartbeat; an empty body is one too.

    Raises `too_large` beyond 4 KiB, and `malformed` for what is no JSON object or has a field of the wrong kind.
    """
    if len(body) > MAX_BYTES:
        raise CountersignError(f"a heartbeat has at most {MAX_BYTES} bytes, not {len(body)}", code="too_large")
    if not body:
        return {}
    value = loads(body)
    if not isinstance(value, dict):
        raise Malformed("a heartbeat is a JSON object")
    if "uptime" in value:  # what the founding specification calls it
        value.setdefault("uptime_s", value["uptime"])
    try:
        return Heartbeat.model_validate(value, strict=True).model_dump(exclude_none=True)
    except ValidationError as error:
        raise Malformed(f"heartbeat: {explain(error)}") from None
