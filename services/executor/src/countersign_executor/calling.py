"""The call under a claim: the gate before its first byte, word that it lasts, and the event of how it ended.

The gate is where promise 9 becomes exact. No call starts on a pulse older than the lease, so a stop that was set
through another executor is known; and this process's copy of the stops is read last, synchronously, so that after a
stop was acknowledged here nothing in its scope passes, also what was claimed before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from countersign_contracts.actions import ActionExecuted, ActionRefused, ActionStarted
from countersign_contracts.control import Stop
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now

from .admission import Admitted, RefusedAction, executed_event, refusal_event
from .caller import Called, Caller, Withheld
from .databases import AWAY
from .executions import Executions
from .outcome import conclude
from .pulse import Pulse
from .recovery import State
from .request import HttpRequest
from .stops import Stops, stopped

Announce = Callable[[ActionStarted, str | None], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Held:
    """A claim. ``interrupted_before``: an earlier one was interrupted, and may have called."""

    request_id: str
    execution_id: str
    fence: int
    interrupted_before: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """How the claim ended: the row's new state and the event that says so."""

    state: State
    event: ActionExecuted | ActionRefused


@dataclass(frozen=True, slots=True)
class NotStarted:
    """No byte was sent, and the claim can be given back (or was lost)."""

    reason: str


class Stopped(Withheld):
    """A stop covers the action."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stopped(stop).message)
        self.stop = stop


class Performer:
    """Calls under claims. ``lease_s``: how old a pulse a call may start on; ``announce`` says that a call lasts."""

    def __init__(
        self,
        caller: Caller,
        executions: Executions,
        pulse: Pulse,
        stops: Stops,
        announce: Announce,
        *,
        lease_s: float,
        started_after_s: float,
        log: Any,
    ) -> None:
        self._caller = caller
        self._executions = executions
        self._pulse = pulse
        self._stops = stops
        self._announce = announce
        self._lease_s = lease_s
        self._started_after_s = started_after_s
        self._log = log

    async def perform(
        self,
        admitted: Admitted,
        request: HttpRequest,
        headers: dict[str, str],
        held: Held,
        traceparent: str | None,
    ) -> Ended | NotStarted:
        """Make the call under ``held``; returns when it ended, or when it could not start."""
        word = _Word(self._announce, admitted, held, traceparent, self._started_after_s, self._log)

        async def gate() -> None:
            if self._pulse.age_s() >= self._lease_s:
                await self._revive(held)
            if (stop := self._stops.covering(admitted.scopes)) is not None:
                raise Stopped(stop)
            word.call_starts()

        try:
            called = await self._caller.call(admitted.tool, request, headers, gate)
        finally:
            await word.spoken()
        return self._ended(admitted, held, called, word.started_at)

    def _ended(self, admitted: Admitted, held: Held, called: Called, started_at: datetime | None) -> Ended | NotStarted:
        at = now()
        if not called.attempts and called.withheld is not None:
            if not isinstance(called.withheld, Stopped):
                return NotStarted(str(called.withheld))
            if not held.interrupted_before:
                refusal = RefusedAction(stopped(called.withheld.stop))
                return Ended("refused", refusal_event(admitted.action, admitted.decision, refusal, at))
        execution = conclude(
            admitted.tool,
            called.attempts,
            execution_id=held.execution_id,
            fence=held.fence,
            interrupted_before=held.interrupted_before,
            started_at=started_at,
            finished_at=at,
            withheld=str(called.withheld) if called.withheld else None,
        )
        return Ended(execution.outcome, executed_event(admitted.action, admitted.decision, execution))

    async def _revive(self, held: Held) -> None:
        """After a silence: others may have set stops, or have taken this process for dead and its claims over."""
        try:
            await self._pulse.beat()
            still_held = await self._executions.still_held(held.request_id, held.fence)
        except AWAY as error:
            raise Withheld(f"the stops cannot be read: {error}") from None
        if not still_held:
            raise Withheld("the claim was taken over")


class _Word:
    """Says that a call started, once it lasts."""

    def __init__(
        self,
        announce: Announce,
        admitted: Admitted,
        held: Held,
        traceparent: str | None,
        after_s: float,
        log: Any,
    ) -> None:
        self._announce = announce
        self._admitted = admitted
        self._held = held
        self._traceparent = traceparent
        self._after_s = after_s
        self._log = log
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.started_at: datetime | None = None

    def call_starts(self) -> None:
        """The first byte is about to leave; later tries change nothing."""
        if self.started_at is None:
            self.started_at = now()
            self._timer = asyncio.get_running_loop().call_later(self._after_s, self._speak)

    def _speak(self) -> None:
        self._task = asyncio.create_task(self._say())

    async def _say(self) -> None:
        event = ActionStarted(
            action=self._admitted.action.ref(),
            execution_id=self._held.execution_id,
            fence=self._held.fence,
            started_at=self.started_at or now(),
        )
        try:
            await self._announce(event, self._traceparent)
        except CountersignError as error:
            # the outcome will be said in any case
            self._log.warning("could not say that a call started", error=error.detail)

    async def spoken(self) -> None:
        """Nothing is said after this: the outcome comes after the start, if that was said at all."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await self._task
