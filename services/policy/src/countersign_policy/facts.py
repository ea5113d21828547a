"""Facts: what the executor's declared read-only lookups say against an action. No answer is a denial too."""

from __future__ import annotations

import asyncio

from countersign_chassis import Bus
from countersign_contracts.actions import Action, Reason
from countersign_contracts.commands import Facts as FactsReply
from countersign_contracts.commands import LookUpFacts
from countersign_contracts.errors import CountersignError, Unavailable

_PAUSE_S = 0.2


class Facts:
    """Asks the executor, a bounded number of times at once and for a bounded time."""

    def __init__(self, bus: Bus, patience_s: float, in_flight: int) -> None:
        self._bus = bus
        self._patience_s = patience_s
        self._slots = asyncio.Semaphore(in_flight)

    async def denials(self, action: Action) -> tuple[Reason, ...]:
        """Reasons to deny ``action``; empty where no fact speaks against it."""
        command = LookUpFacts(
            request_id=action.request_id, tool=action.tool, tool_version=action.tool_version, args=action.args
        )
        async with self._slots:
            reply = await self._ask(command)
        if isinstance(reply, Reason):
            return (reply,)
        return tuple(reason.model_copy(update={"code": "fact"}) for reason in reply.denials)

    async def _ask(self, command: LookUpFacts) -> FactsReply | Reason:
        """The reply; or, once patience is over or the executor refuses, the reason why there is none."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience_s
        while True:
            try:
                left = max(until - loop.time(), _PAUSE_S)
                reply: FactsReply = await self._bus.ask(command, timeout_s=left)
                return reply
            except Unavailable as error:
                # an executor that is just restarting answers a moment later
                if loop.time() + _PAUSE_S >= until:
                    return _unavailable(command, error)
            except CountersignError as error:
                return _unavailable(command, error)
            await asyncio.sleep(_PAUSE_S)


def _unavailable(command: LookUpFacts, error: CountersignError) -> Reason:
    message = f"the facts of `{command.tool}` could not be looked up: {error.detail}"
    return Reason(code="facts_unavailable", message=message)
