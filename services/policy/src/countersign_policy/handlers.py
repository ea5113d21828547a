"""What the service does with each message: actions requested and refused, approvals resolved, actions cancelled.

Commit, publish, ack: until the ack, the message itself is the outbox. A repeat is answered with what is stored.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from countersign_chassis import Bus, Coalescer, Delivery, Failpoints
from countersign_contracts.actions import ActionHeld, ActionRefused, ActionRequested
from countersign_contracts.approvals import ApprovalResolved
from countersign_contracts.command import Done
from countersign_contracts.commands import CancelAction
from countersign_contracts.envelope import Envelope
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now

from .decider import Decided, Decider, Job, Resolving
from .facts import Facts
from .store import Decisions, Stored, subject_of

_MAX_TRIES = 8


class Handlers:
    """The handlers, over a decider that does not know the bus."""

    def __init__(
        self,
        bus: Bus,
        decider: Decider,
        decisions: Decisions,
        facts: Facts,
        failpoints: Failpoints,
        log: Any,
    ) -> None:
        self._log = log
        self._bus = bus
        self._decider = decider
        self._decisions = decisions
        self._facts = facts
        self._failpoints = failpoints
        self._late: set[asyncio.Task[None]] = set()
        #: actions whose facts arrived, decided together
        self._coalescer: Coalescer[tuple[Delivery, Job], None] = Coalescer(self._decide_late)

    async def actions(self, batch: list[Delivery]) -> None:
        """``actions.requested``: decide; ``actions.refused``: give reservations back."""
        requested = {d.event.action.request_id: d for d in batch if isinstance(d.event, ActionRequested)}
        refused = [d.event.action.request_id for d in batch if isinstance(d.event, ActionRefused)]
        if refused:
            await self._decisions.refused(refused)
        if not requested:
            return
        decided = await self._decider.decide([Job(d.event.action) for d in requested.values()])
        await self._publish(decided, requested)
        if decided.needing_facts:
            # what was decided before needs no lookup to be told again
            known = await self._decisions.find(decided.needing_facts)
            await self._publish(Decided(known, frozenset(known)), requested)
            for id in decided.needing_facts - known.keys():
                self._later(requested[id], self._with_facts)

    async def approvals(self, batch: list[Delivery]) -> None:
        """``approvals.resolved``: grant or deny what was held."""
        stored = await self._decisions.find({d.event.action.request_id for d in batch})
        for delivery in batch:
            resolved: ApprovalResolved = delivery.event
            held = stored.get(resolved.action.request_id)
            if held is None or held.envelope is None:
                if held is None:
                    await delivery.dead(f"no decision holds action {resolved.action.request_id}")
                continue
            if held.outcome != "hold":
                repeated = frozenset([held.request_id])
                await self._publish(Decided({held.request_id: held}, repeated), {held.request_id: delivery})
                continue
            job = Resolving(ActionHeld.from_bytes(held.envelope.body), resolved)
            decided = await self._decider.resolve(job)
            if decided.needing_facts:
                self._later(delivery, partial(self._resolve_with_facts, job))
            else:
                await self._publish(decided, {held.request_id: delivery})

    async def cancel(self, command: CancelAction) -> Done:
        """Cancel what is not decided or held.

        Raises ``already_final`` for what was granted or denied, ``not_found`` for another agent's action.
        """
        id = command.request_id
        if await self._decisions.cancel(id, command.agent_id, command.by, command.reason, now()):
            return Done()
        stored = (await self._decisions.find([id])).get(id)
        if stored is None or stored.agent_id != command.agent_id:
            raise CountersignError(f"agent `{command.agent_id}` has no action {id}", code="not_found")
        if stored.outcome == "cancelled":
            return Done()
        became = "granted: it is being executed, or was" if stored.outcome == "allow" else "denied"
        raise CountersignError(f"too late to cancel: the action was {became}", code="already_final")

    async def stop(self) -> None:
        """Give back what still waits for facts."""
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    # --- actions that wait for facts --------------------------------------------------------------

    def _later(self, delivery: Delivery, finish: Callable[[Delivery], Awaitable[None]]) -> None:
        """Finish ``delivery`` apart from its batch, which need not wait for a lookup."""
        delivery.detach()
        task = asyncio.create_task(self._finish(delivery, finish))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _finish(self, delivery: Delivery, finish: Callable[[Delivery], Awaitable[None]]) -> None:
        """Settle ``delivery`` as its consumer would have: it comes again if it fails, and not for ever."""
        try:
            await finish(delivery)
        except asyncio.CancelledError:
            await delivery.nak(0)
            raise
        except Exception as error:
            self._log.warning("action not decided; trying again", tries=delivery.tries, error=repr(error))
            if delivery.tries < _MAX_TRIES:
                await delivery.nak()
            else:
                await delivery.dead(repr(error))
        else:
            await delivery.ack()

    async def _with_facts(self, delivery: Delivery) -> None:
        action = delivery.event.action
        await self._coalescer.submit((delivery, Job(action, await self._facts.denials(action))))

    async def _resolve_with_facts(self, job: Resolving, delivery: Delivery) -> None:
        action = job.held.action
        job = dataclasses.replace(job, facts=await self._facts.denials(action))
        await self._publish(await self._decider.resolve(job), {action.request_id: delivery})

    async def _decide_late(self, batch: Sequence[tuple[Delivery, Job]]) -> Sequence[None]:
        jobs = {job.action.request_id: job for _, job in batch}
        decided = await self._decider.decide(list(jobs.values()))
        await self._publish(decided, {job.action.request_id: delivery for delivery, job in batch})
        return [None] * len(batch)

    # --- publishing -------------------------------------------------------------------------------

    async def _publish(self, decided: Decided, deliveries: dict[str, Delivery]) -> None:
        await self._failpoints.hit("policy.after_commit_before_publish")
        if missing := decided.repeated - decided.stored.keys():
            raise RuntimeError(f"decided, and not stored: {', '.join(missing)}")
        first: list[tuple[str, str, Envelope]] = []
        for id, stored in decided.stored.items():
            delivery = deliveries[id]
            message = _message(stored, delivery)
            if message is None:
                continue
            if id in decided.repeated and delivery.tries == 1:
                # asked again on purpose, so the stream's deduplication must let the answer through
                await self._bus.publish_sealed([message], attempt=str(delivery.stream_seq))
            else:
                first.append(message)
        await self._bus.publish_sealed(first)
        await self._failpoints.hit("policy.after_publish_before_ack")


def _message(stored: Stored, delivery: Delivery) -> tuple[str, str, Envelope] | None:
    """What to publish: nothing for a cancelled action, whose end the gateway tells."""
    if stored.outcome == "cancelled" or stored.envelope is None:
        return None
    envelope = dataclasses.replace(stored.envelope, traceparent=delivery.envelope.traceparent)
    return (*subject_of(envelope, stored.agent_id), envelope)
