"""The door in account AGENTS: queued actions, calls that wait, look-ups and cancellations over NATS.

The server made sure that ``agents.<id>.…`` comes from agent ``<id>``; its status is checked again by policy.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal, TypeVar

import orjson
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from prometheus_client import Counter
from pydantic import Field, ValidationError

from countersign_chassis import RawDelivery
from countersign_chassis.connection import NatsConnection
from countersign_chassis.outages import OUTAGES
from countersign_contracts import subjects
from countersign_contracts.actions import FINAL_STATES, ActionPage, ActionResult, State
from countersign_contracts.envelope import seal
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import RequestId, SessionId, ToolName, is_request_id
from countersign_contracts.model import Frozen, now
from countersign_contracts.topology import RESULT_TYPE, RESULTS_TYPE
from countersign_ledger import SigningKey

from .acceptance import Acceptance
from .cancellation import Cancellation
from .open_actions import OpenActions
from .settings import Settings
from .store import Accepted, Store
from .submission import (
    BusSubmission,
    Words,
    check_identity,
    database_away,
    invalid,
    problem_for_bus,
    read_submission,
)
from .waiters import Waiters

#: When a queued action of an agent that has as many open as it may is looked at again.
_LATER_S = 1.0
#: The largest answer with several actions, in bytes: well below what the bus carries.
_PAGE_BYTES = 524_288


F = TypeVar("F", bound=Frozen)


class Lookup(Frozen):
    """The body on ``agents.<id>.get`` and ``.cancel``."""

    request_id: RequestId
    reason: Words | None = None


class Listing(Frozen):
    """The body on ``agents.<id>.list``: which of its own actions, newest first."""

    session_id: SessionId | None = None
    state: State | None = None
    tool: ToolName | None = None
    before: RequestId | None = Field(default=None, description="the `next` of the page before")
    limit: int = Field(default=50, ge=1, le=200)


class Ingress:
    """Everything an agent may do over NATS."""

    def __init__(
        self,
        settings: Settings,
        connection: NatsConnection,
        acceptance: Acceptance,
        store: Store,
        cancellation: Cancellation,
        waiters: Waiters,
        open_actions: OpenActions,
        key: SigningKey,
        log: Any,
        refused: Counter,
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._acceptance = acceptance
        self._store = store
        self._cancellation = cancellation
        self._waiters = waiters
        self._open = open_actions
        self._key = key
        self._log = log
        self._refused = refused
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen for requests."""
        for verb, handler in (
            ("call", self._call),
            ("get", self._get),
            ("list", self._list),
            ("cancel", self._cancel),
        ):
            await self._connection.client.listen(f"agents.*.{verb}", self._spawning(handler), queue="gateway")

    def _spawning(self, handler: Any) -> Any:
        def receive(msg: Msg) -> None:
            task = asyncio.create_task(self._answer(msg, handler))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return receive

    # --- the queue --------------------------------------------------------------------------------

    async def queued(self, batch: list[RawDelivery]) -> None:
        """Messages of stream INGRESS: accept them together; whatever is wrong with one is told to its agent."""
        await asyncio.gather(*(self._queued(delivery) for delivery in batch))

    async def _queued(self, delivery: RawDelivery) -> None:
        agent_id = subjects.agent_of(delivery.subject)
        if self._open.exceeded(agent_id) is not None:
            await delivery.nak(_LATER_S)
            return
        try:
            accepted = self._prepare(agent_id, self._read(agent_id, delivery.body), delivery.headers, "nats")
        except CountersignError as error:
            self._refused.labels(error.code).inc()
            await self._refuse(agent_id, delivery.body, error)
            return
        try:
            result = await self._acceptance.accept(accepted)
        except CountersignError as error:
            if error.code in ("overloaded", "at_capacity"):
                await delivery.nak(_LATER_S)
                return
            if error.status == 503:
                raise  # it stays in the queue
            self._refused.labels(error.code).inc()
            await self._tell(
                agent_id, accepted.action.request_id, orjson.dumps(problem_for_bus(error, accepted.action.request_id))
            )
            return
        await self.announce([result])

    async def _refuse(self, agent_id: str, body: bytes, error: CountersignError) -> None:
        """Tell the agent on the results subject of its request id, if one can be found in what it sent."""
        request_id = _request_id_in(body)
        if request_id is None:
            # a stream's PubAck planted here by a chosen reply subject has none either: dropped and counted
            self._log.info("queued message without a request id dropped", agent=agent_id, reason=error.detail)
            return
        await self._tell(agent_id, request_id, orjson.dumps(problem_for_bus(error, request_id)))

    async def announce(self, results: list[ActionResult]) -> None:
        """Tell agents on their results subjects."""
        for result in results:
            await self._tell(result.agent_id, result.request_id, result.to_bytes())

    async def _tell(self, agent_id: str, request_id: str, body: bytes) -> None:
        headers = self._sealed(agent_id, request_id, body)
        try:
            self._connection.client.send(subjects.results(agent_id, request_id), body, headers=headers)
        except NatsError as error:
            self._log.warning("result not sent; the agent can ask for it", error=str(error))

    def _sealed(self, agent_id: str, request_id: str, body: bytes, kind: str = RESULT_TYPE) -> dict[str, str]:
        headers = seal(
            body, id=f"{request_id}.result", type=kind, subject=agent_id, time=now(), key=self._key
        ).headers()
        del headers["Nats-Msg-Id"]
        return headers

    # --- request-reply ------------------------------------------------------------------------------

    async def _answer(self, msg: Msg, handler: Any) -> None:
        agent_id, kind = subjects.agent_of(msg.subject), RESULT_TYPE
        # an agent may name any subject of its account as reply: only its own inbox is answered
        if not msg.reply.startswith(f"{subjects.inbox(agent_id)}."):
            self._refused.labels("foreign_reply").inc()
            return
        try:
            result: ActionResult | ActionPage = await handler(agent_id, msg)
            kind, request_id, body = RESULTS_TYPE, "none", result.to_bytes()
            if isinstance(result, ActionResult):
                kind, request_id = RESULT_TYPE, result.request_id
        except CountersignError as error:
            self._refused.labels(error.code).inc()
            request_id = _request_id_in(msg.data) or "none"
            body = orjson.dumps(problem_for_bus(error, None))
        except OUTAGES as error:
            self._log.warning("request failed for an outage", subject=msg.subject, error=repr(error))
            request_id = _request_id_in(msg.data) or "none"
            body = orjson.dumps(problem_for_bus(database_away(), None))
        except Exception:
            self._log.exception("request failed", subject=msg.subject)
            request_id = _request_id_in(msg.data) or "none"
            body = orjson.dumps(problem_for_bus(CountersignError("the gateway failed; its log says why"), None))
        try:
            self._connection.client.send(msg.reply, body, headers=self._sealed(agent_id, request_id, body, kind))
        except NatsError as error:
            self._log.warning("reply not sent; the agent can ask for it", error=str(error))

    async def _call(self, agent_id: str, msg: Msg) -> ActionResult:
        submission = self._read(agent_id, msg.data)
        accepted = self._prepare(agent_id, submission, msg.headers or {}, "call")
        wait_s = self._settings.default_wait_s if submission.wait_s is None else submission.wait_s
        request_id = accepted.action.request_id
        with self._waiters.waiting(request_id) as outcome:
            result = await self._acceptance.accept(accepted)
            if result.state in FINAL_STATES:
                return result
            try:
                async with asyncio.timeout(wait_s):
                    return await outcome
            except TimeoutError:
                row = await self._store.stop_waiting(request_id)
                return row.result if row else result

    async def _get(self, agent_id: str, msg: Msg) -> ActionResult:
        return await self._own(agent_id, _read(msg.data, Lookup))

    async def _list(self, agent_id: str, msg: Msg) -> ActionPage:
        wanted = _read(msg.data or b"{}", Listing)
        rows = await self._store.page(
            agent_id=agent_id,
            session_id=wanted.session_id,
            states=[wanted.state] if wanted.state else [],
            tool=wanted.tool,
            since=None,
            until=None,
            before=wanted.before,
            limit=wanted.limit + 1,
        )
        return _page([self._waiters.newer(row.result) for row in rows], wanted.limit)

    async def _cancel(self, agent_id: str, msg: Msg) -> ActionResult:
        lookup = _read(msg.data, Lookup)
        return await self._cancellation.cancel(await self._own(agent_id, lookup), f"agent:{agent_id}", lookup.reason)

    async def _own(self, agent_id: str, lookup: Lookup) -> ActionResult:
        row = await self._store.find(lookup.request_id)
        if row is None or row.result.agent_id != agent_id:
            raise CountersignError(f"agent {agent_id} has no action {lookup.request_id}", code="not_found")
        return self._waiters.newer(row.result)

    def _read(self, agent_id: str, body: bytes) -> BusSubmission:
        if len(body) > self._settings.max_body_bytes:
            raise CountersignError(
                f"the message has {len(body)} bytes; at most {self._settings.max_body_bytes} are taken",
                code="too_large",
            )
        submission = read_submission(body, BusSubmission)
        check_identity(agent_id, body=submission.agent_id, header=None)
        return submission

    def _prepare(
        self, agent_id: str, submission: BusSubmission, headers: dict[str, str], channel: Literal["call", "nats"]
    ) -> Accepted:
        return self._acceptance.prepare(
            submission,
            agent_id=agent_id,
            credential_id="nats",
            channel=channel,
            request_id=submission.request_id,
            traceparent=headers.get("traceparent"),
        )

    async def forward_heartbeat(self, agent_id: str, body: bytes) -> None:
        """A heartbeat that came over HTTP goes where those over NATS go."""
        await self._connection.client.publish(subjects.agent(agent_id, "heartbeat"), body)

    async def drain(self) -> None:
        """Calls still waiting are answered with what is known; their agents call again, or ask."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)


def _request_id_in(body: bytes) -> str | None:
    try:
        value = orjson.loads(body).get("request_id")
    except (orjson.JSONDecodeError, AttributeError):
        return None
    return value if isinstance(value, str) and is_request_id(value) else None


def _page(found: list[ActionResult], limit: int) -> ActionPage:
    """As many as are wanted and fit into one answer; one at least."""
    items: list[ActionResult] = []
    size = 0
    for result in found[:limit]:
        size += len(result.to_bytes())
        if items and size > _PAGE_BYTES:
            break
        items.append(result)
    return ActionPage(items=tuple(items), next=items[-1].request_id if len(items) < len(found) else None)


def _read(body: bytes, model: type[F]) -> F:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from None
