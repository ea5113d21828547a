"""A grant in hand, and what remains to be said and done with its message once the action was carried out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from countersign_contracts.actions import ActionExecuted, ActionGranted, ActionReconciled, ActionRefused
from countersign_contracts.event import Event

from .admission import Admitted
from .recovery import ExecutionRow
from .request import HttpRequest


@dataclass(slots=True, eq=False)
class Work:
    """A grant in hand. ``recorded``: whether audit has it on record; ``begun``: it may have been claimed."""

    grant: ActionGranted
    recorded: asyncio.Future[bool]
    traceparent: str | None
    begun: bool = False

    def known_unrecorded(self) -> bool:
        """Whether audit has answered, and not confirmed it."""
        return self.recorded.done() and not self.recorded.result()

    async def on_record(self) -> bool:
        """Whether audit confirms it."""
        return await asyncio.shield(self.recorded)


@dataclass(frozen=True, slots=True)
class Say:
    """It ended: publish these events with these bodies, then acknowledge.

    ``again``: it had ended before; whoever asks once more has not heard of it.
    """

    events: list[tuple[Event, bytes]]
    again: bool = False


@dataclass(frozen=True, slots=True)
class NotNow:
    """Nothing runs now; the message comes back. ``delay_s`` None: by its tries."""

    reason: str
    delay_s: float | None = None


@dataclass(frozen=True, slots=True)
class Bury:
    """The message makes no sense, and trying again would not mend it."""

    reason: str


Settlement = Say | NotNow | Bury


@dataclass(frozen=True, slots=True)
class Ready:
    """All that a call needs."""

    admitted: Admitted
    host: str
    request: HttpRequest
    headers: dict[str, str] = field(repr=False)


def stored_events(row: ExecutionRow) -> list[tuple[Event, bytes]]:
    """The final events of a row, as they were published."""
    events: list[tuple[Event, bytes]] = []
    if row.event is not None:
        kind = ActionRefused if row.state == "refused" else ActionExecuted
        events.append((kind.from_bytes(row.event), row.event))
    if row.reconciled_event is not None:
        events.append((ActionReconciled.from_bytes(row.reconciled_event), row.reconciled_event))
    return events
