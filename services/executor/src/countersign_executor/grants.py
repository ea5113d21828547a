"""The consumer of grants.

Each becomes a task, repeats join the one that runs, and the message is settled at the end.

The unacknowledged message is the outbox: record, publish, acknowledge. What happens to the action is
:mod:`.actions`'.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from countersign_chassis import Bus, Delivery, Failpoints
from countersign_contracts.envelope import Envelope, seal
from countersign_contracts.errors import CountersignError
from countersign_contracts.event import Event
from countersign_contracts.model import now
from countersign_ledger.signing import SigningKey

from .actions import Actions
from .confirmations import Confirmations
from .databases import AWAY
from .measures import Measures
from .work import Bury, NotNow, Say, Settlement, Work

#: A grant that fails in ways that waiting should not explain is dead-lettered after so many deliveries.
MAX_TRIES = 8


@dataclass(slots=True, eq=False)
class Run:
    """A granted action in hand, with every delivery of its grant so far."""

    work: Work
    deliveries: list[Delivery]
    task: asyncio.Task[None] | None = field(default=None)


class Grants:
    """``drain`` belongs to the service's stop."""

    def __init__(
        self,
        actions: Actions,
        confirmations: Confirmations,
        bus: Bus,
        key: SigningKey,
        failpoints: Failpoints,
        measures: Measures,
        *,
        max_in_hand: int,
        grace_s: float,
        log: Any,
    ) -> None:
        self._actions = actions
        self._confirmations = confirmations
        self._bus = bus
        self._key = key
        self._failpoints = failpoints
        self._measures = measures
        self._grace_s = grace_s
        self._log = log
        self._max_in_hand = max_in_hand
        self._runs: dict[str, Run] = {}
        self._one_ended = asyncio.Event()

    async def granted(self, batch: list[Delivery]) -> None:
        """Take a batch in hand, once there is room; returns at once then."""
        while len(self._runs) >= self._max_in_hand:
            self._one_ended.clear()
            await self._one_ended.wait()
        event_ids: list[str] = []
        again = False
        for delivery in batch:
            delivery.detach()
            request_id = delivery.event.action.request_id
            if (run := self._runs.get(request_id)) is not None:
                run.deliveries.append(delivery)
                continue
            event_ids.append(delivery.envelope.id)
            again = again or delivery.tries > 1
            recorded = self._confirmations.expect(delivery.envelope.id)
            run = self._runs[request_id] = Run(
                Work(delivery.event, recorded, delivery.envelope.traceparent), [delivery]
            )
            run.task = asyncio.create_task(self._run(request_id, run))
        # what comes again was told of long ago, if ever
        self._confirmations.await_word(event_ids, patiently=not again)

    async def drain(self) -> None:
        """Give back what has not begun; let the rest end within the grace period."""
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for run in self._runs.values():
            if not run.work.begun and run.task is not None:
                run.task.cancel()
        if tasks:
            _, unfinished = await asyncio.wait(tasks, timeout=self._grace_s)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, request_id: str, run: Run) -> None:
        try:
            await self._settle(run, await self._actions.carry_out(run.work))
        except asyncio.CancelledError:
            await self._give_back(run, "stopping", 0)
            raise
        except AWAY as error:
            self._log.warning("a grant waits", request=request_id, error=_line(error))
            await self._give_back(run, "unavailable")
        except Exception as error:
            self._log.exception("a grant failed", request=request_id, error=_line(error))
            await self._failed(run, _line(error))
        finally:
            del self._runs[request_id]
            self._one_ended.set()

    async def _settle(self, run: Run, settlement: Settlement) -> None:
        match settlement:
            case Say(events, again):
                await self._failpoints.hit("executor.after_record_before_publish")
                # asked again on purpose, so the stream's deduplication must let the answer through
                asked = next((str(each.stream_seq) for each in run.deliveries if again and each.tries == 1), "")
                for event, body in events:
                    await self._publish(event, body, run.work.traceparent, asked)
                await self._failpoints.hit("executor.after_publish_before_ack")
                while run.deliveries:
                    await run.deliveries.pop().ack()
            case NotNow(reason, delay_s):
                await self._give_back(run, reason, delay_s)
            case Bury(reason):
                await self._bury(run, reason)

    async def _publish(self, event: Event, body: bytes, traceparent: str | None, attempt: str) -> None:
        envelope: Envelope = seal(
            body,
            id=event.event_id(),
            type=event.spec.type,
            subject=event.about(),
            time=now(),
            key=self._key,
            traceparent=traceparent,
        )
        await self._bus.publish_sealed([(event.nats_subject(), event.spec.stream, envelope)], attempt=attempt)

    async def _give_back(self, run: Run, reason: str, delay_s: float | None = None) -> None:
        self._measures.given_back.labels(reason).inc()
        while run.deliveries:
            await run.deliveries.pop().nak(delay_s)

    async def _failed(self, run: Run, reason: str) -> None:
        if max(delivery.tries for delivery in run.deliveries) >= MAX_TRIES:
            await self._bury(run, reason)
        else:
            await self._give_back(run, "failed")

    async def _bury(self, run: Run, reason: str) -> None:
        try:
            await run.deliveries[0].dead(reason)
        except CountersignError as error:
            self._log.error("dead letter not written; the message stays", error=error.detail)
            await self._give_back(run, "unburied", 5)
        while run.deliveries:
            await run.deliveries.pop().ack()


def _line(error: Exception) -> str:
    return error.detail if isinstance(error, CountersignError) else f"{type(error).__name__}: {error}"
