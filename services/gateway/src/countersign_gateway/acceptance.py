"""Accepting actions: the row is committed before anyone hears `accepted`; the event is published right after."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

from prometheus_client import Counter

from countersign_chassis import Bus, Coalescer, Failpoints, Mirror
from countersign_chassis.tracing import CURRENT, Span, Tracer
from countersign_contracts.actions import Action, ActionRequested, ActionResult
from countersign_contracts.catalogue import ToolRecord
from countersign_contracts.envelope import seal_event
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import new_id
from countersign_contracts.model import now
from countersign_ledger import SigningKey

from .open_actions import OpenActions
from .sealing import Sealing
from .settings import Settings
from .store import Accepted, Row, Store
from .submission import Submission, make_action, request_text, unkeyed_sha256
from .tracing import traceparent as trace_context
from .waiters import Waiters

Channel = Literal["http", "call", "nats"]


class Acceptance:
    """Takes submissions of authenticated agents; many at once share one transaction."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        bus: Bus,
        key: SigningKey,
        tools: Mirror[ToolRecord],
        sealing: Sealing,
        waiters: Waiters,
        open_actions: OpenActions,
        failpoints: Failpoints,
        log: Any,
        accepted: Counter,
        tracer: Tracer,
    ) -> None:
        self._settings = settings
        self._store = store
        self._bus = bus
        self._key = key
        self._tools = tools
        self._sealing = sealing
        self._waiters = waiters
        self._open = open_actions
        self._failpoints = failpoints
        self._log = log
        self._accepted = accepted
        self._tracer = tracer
        self._coalescer: Coalescer[Accepted, bool] = Coalescer(self._flush, max_batch=256)
        self._publishing: set[asyncio.Task[None]] = set()

    def prepare(
        self,
        submission: Submission,
        *,
        agent_id: str,
        credential_id: str,
        channel: Channel,
        request_id: str | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
    ) -> Accepted:
        """The row to be: the action with its digest, and its signed event.

        From here on no sensitive argument is in the clear. Raises `invalid` if one came through the queue, and what
        :meth:`accept` would for want of room, before the work of sealing and signing.
        """
        self._open.check(agent_id)
        record = self._tools.get(submission.tool)
        if channel == "nats":
            self._sealing.require_unqueued(submission.args, record)
        at = now()
        request_id = request_id or new_id()
        action = make_action(
            submission,
            self._sealing.travelling(
                submission.args, record, request_id=request_id, agent_id=agent_id, tool=submission.tool
            ),
            request_id=request_id,
            agent_id=agent_id,
            tool_version=record.version if record else 0,
            at=at,
        )
        event = ActionRequested(
            action=action, channel="http" if channel == "http" else "nats", credential_id=credential_id
        )
        given = trace_context(traceparent)
        span = self._begin(action, channel, given)
        envelope = seal_event(event, time=at, key=self._key, traceparent=given if span is None else span.traceparent)
        text = request_text(submission)
        return Accepted(action, envelope, channel, idempotency_key, self._sealing.request_digest(text), text, span)

    def _begin(self, action: Action, channel: Channel, given: str | None) -> Span | None:
        """The span of the acceptance, under the HTTP request's if there is one."""
        doing = CURRENT.get()
        return self._tracer.begin_here(
            f"accept {action.tool}",
            doing.traceparent if doing is not None else given,
            {"countersign.request_id": action.request_id, "countersign.channel": channel}
            | {"gen_ai.agent.id": action.agent_id, "gen_ai.tool.name": action.tool},
        )

    async def accept(self, accepted: Accepted) -> ActionResult:
        """Commit the row and publish; returns the state: `accepted`, or that of the same action accepted before.

        Raises `idempotency_conflict` if the key or request id was used with another body, `overloaded` or
        `at_capacity` beyond the bounds on open actions.
        """
        agent_id = accepted.action.agent_id
        self._open.reserve(agent_id)
        new = False
        try:
            new = await self._coalescer.submit(accepted)
        finally:
            self._open.settle(agent_id, new)
            if accepted.span is not None:
                accepted.span.end()
        if new:
            self._accepted.labels(accepted.channel).inc()
            return ActionResult.of(accepted.action.ref(), "accepted", accepted.action.requested_at)
        return self._waiters.newer((await self._earlier(accepted)).result)

    async def _earlier(self, accepted: Accepted) -> Row:
        """The row that took the request id or the key first."""
        action = accepted.action
        row = await self._store.find(action.request_id)
        what = f"request id {action.request_id}"
        if row is None and accepted.idempotency_key is not None:
            row = await self._store.find_by_key(action.agent_id, accepted.idempotency_key)
            what = f"idempotency key {accepted.idempotency_key!r}"
        if row is None:
            raise CountersignError("the action could not be stored; try again", code="unavailable")
        same = (accepted.request_sha256, unkeyed_sha256(accepted.request_text))
        if row.result.agent_id != action.agent_id or row.request_sha256 not in same:
            raise CountersignError(
                f"{what} was used before with another body; send the same body, or choose a new one",
                code="idempotency_conflict",
            )
        return row

    async def _flush(self, batch: Sequence[Accepted]) -> list[bool]:
        await self._failpoints.hit("gateway.before_commit")
        at = now()
        inserted = await self._store.accept(batch, at, at + timedelta(seconds=self._settings.redrive_after_s))
        await self._failpoints.hit("gateway.after_commit_before_publish")
        # the row is the promise: whoever is told `accepted` need not wait for the bus; the sweeper repeats what fails
        new = []
        results = []
        for item in batch:
            if item.action.request_id in inserted:
                inserted.discard(item.action.request_id)
                new.append(item)
                results.append(True)
            else:
                results.append(False)
        if new:
            task = asyncio.create_task(self._publish(new))
            self._publishing.add(task)
            task.add_done_callback(self._publishing.discard)
        return results

    async def _publish(self, batch: list[Accepted]) -> None:
        subject = ActionRequested.spec.subject
        try:
            await self._bus.publish_sealed(
                [
                    (subject.format(token=item.action.agent_id), ActionRequested.spec.stream, item.envelope)
                    for item in batch
                ]
            )
        except CountersignError as error:
            self._log.warning("accepted actions not published yet; the sweeper repeats them", error=error.detail)

    async def drain(self) -> None:
        """Let publications under way finish."""
        if self._publishing:
            await asyncio.wait(self._publishing, timeout=3)
