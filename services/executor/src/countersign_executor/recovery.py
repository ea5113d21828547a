"""What to do with a grant whose execution is already in the table. Pure.

A repeat is answered with the stored outcome. A row that is ``started`` while its owner is gone had its call
interrupted: a tool that may be repeated is claimed again under the next fence, anything else becomes
``unknown`` and is left to people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["authorised", "started", "succeeded", "failed", "unknown", "refused"]


@dataclass(frozen=True, slots=True)
class ExecutionRow:
    """An execution as the table has it. ``event`` is the body of its final event, as published."""

    request_id: str
    execution_id: str
    digest: str
    state: State
    fence: int
    owner: str | None
    event: bytes | None
    reconciled: Literal["succeeded", "failed"] | None
    reconciled_event: bytes | None


@dataclass(frozen=True, slots=True)
class Republish:
    """It ended: say so again, in the same bytes."""

    row: ExecutionRow


@dataclass(frozen=True, slots=True)
class Later:
    """Another executor has it in hand: look again later."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Interrupted and repeatable.

    Call again under ``fence``, which refuses a late result of the older claim.
    """

    fence: int
    execution_id: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Interrupted and not to be called again: the outcome is unknown. ``fence`` refuses a late result."""

    fence: int
    execution_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Untouched:
    """Claimed by this very process, which knows that it never called.

    Carry on (or refuse) under ``fence``.
    """

    fence: int
    execution_id: str


@dataclass(frozen=True, slots=True)
class AnotherAction:
    """The row is of another digest: the request id was used for something else. Nothing may run."""


Repeat = Republish | Later | Resume | GiveUp | Untouched | AnotherAction


def decide_repeat(
    row: ExecutionRow,
    *,
    digest: str,
    owner_lives: bool,
    untouched: bool,
    may_repeat: bool,
    refused: str | None,
) -> Repeat:
    """What a grant for ``digest`` means for ``row``.

    ``owner_lives``: another process that claimed it still works on it. ``untouched``: it was claimed here,
    and certainly never called. ``may_repeat``: the tool may be called twice. ``refused``: why a new attempt
    would not be allowed.
    """
    if row.digest != digest:
        return AnotherAction()
    if row.event is not None:
        return Republish(row)
    if row.state == "authorised" or owner_lives:
        return Later()
    if untouched:
        return Untouched(row.fence + 1, row.execution_id)
    if refused is not None:
        return GiveUp(row.fence + 1, row.execution_id, f"it may not be tried again: {refused}")
    if not may_repeat:
        return GiveUp(row.fence + 1, row.execution_id, "the tool may not be called twice")
    return Resume(row.fence + 1, row.execution_id)
