"""What follows a committed change: its events are published, its records shown, void NATS users refused.

The rows and the loops make sure of all of it; here it is done at once, and the caller is told what is not done yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

from countersign_chassis import Failpoints
from countersign_contracts.errors import CountersignError

from .outbox import Outbox
from .projections import Projection
from .revocations import Revocations


class Aftermath:
    """Shared by all commands."""

    def __init__(
        self,
        outbox: Outbox,
        agents: Projection,
        people: Projection,
        logins: Projection,
        revocations: Revocations,
        changed: asyncio.Event,
        failpoints: Failpoints,
        log: Any,
    ) -> None:
        self._outbox = outbox
        self._agents = agents
        self._people = people
        self._logins = logins
        self._revocations = revocations
        self._changed = changed
        self._failpoints = failpoints
        self._log = log

    async def of(
        self,
        *,
        within_s: float,
        agents: Sequence[str] = (),
        people: Sequence[str] = (),
        logins: Sequence[str] = (),
        revoke: bool = False,
    ) -> list[str]:
        """Do what follows; returns why something is not done yet, if so. It is then done by itself, later.

        ``within_s``: how long the caller can wait. Publishing is not waited for: nothing depends on it.
        """
        await self._failpoints.hit("registry.after_commit_before_publish")
        self._outbox.wake()
        self._changed.set()
        steps: list[Awaitable[None]] = []
        if agents:
            steps.append(self._agents.show(agents))
        if people:
            steps.append(self._people.show(people))
        if logins:
            steps.append(self._logins.show(logins))
        if revoke:
            steps.append(self._revocations.enforce())
        return [reason for reason in await asyncio.gather(*(self._done(step, within_s) for step in steps)) if reason]

    async def _done(self, step: Awaitable[None], within_s: float) -> str | None:
        try:
            async with asyncio.timeout(within_s):
                await step
        except CountersignError as error:
            reason = error.detail
        except TimeoutError:
            reason = f"not confirmed within {within_s:.0f} s"
        else:
            return None
        self._log.warning("a change is committed, and not yet in force everywhere", reason=reason)
        return reason
