"""``/api/v1/actions``: ask for an action, follow it, cancel it, reconcile it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import Field

from countersign_contracts.actions import FINAL_STATES, ActionPage, ActionResult, ActionView, State
from countersign_contracts.commands import ExecutionView, GetExecution, ReconcileAction
from countersign_contracts.errors import CountersignError, Refused
from countersign_contracts.ids import AgentId, SessionId, ToolName, is_request_id
from countersign_contracts.model import Frozen, Time

from ..credentials import AgentIdentity, Identity, PersonIdentity
from ..store import Accepted
from ..submission import Submission, Words, check_identity, read_submission, wait_seconds
from .context import Either, Needs, OnlyAgents, Parts, PartsOf, Reader, body_of
from .problems import RESPONSES

router = APIRouter(prefix="/api/v1/actions", tags=["actions"], responses=RESPONSES)


class CancelBody(Frozen):
    """Why."""

    reason: Words | None = None


class ReconcileBody(Frozen):
    """What became of it, and how it is known."""

    outcome: Literal["succeeded", "failed"]
    note: Words = Field(min_length=1)


Viewer = Annotated[Identity, Depends(Either("read", agents="its own actions"))]
Canceller = Annotated[Identity, Depends(Either("cancel", agents="its own actions"))]


def _json(result: Frozen, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(result.to_bytes(), status, headers, media_type="application/json")


@router.post(
    "",
    response_model=ActionResult,
    status_code=202,
    responses={200: {"model": ActionResult, "description": "The action has ended; this is its outcome"}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": Submission.model_json_schema()}},
        }
    },
)
async def submit(
    request: Request,
    agent: Annotated[AgentIdentity, Depends(OnlyAgents("itself"))],
    parts: PartsOf,
    prefer: Annotated[str | None, Header(description="`wait=N`: wait N seconds for the outcome")] = None,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    x_agent_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Ask for an action: 200 with the outcome if it ended while waiting, else 202 with where to follow it."""
    submission = read_submission(await body_of(request, parts.settings.max_body_bytes), Submission)
    check_identity(agent.agent_id, body=submission.agent_id, header=x_agent_id)
    wait_s = wait_seconds(prefer, default=parts.settings.default_wait_s, longest=parts.settings.max_wait_s)
    accepted = parts.acceptance.prepare(
        submission,
        agent_id=agent.agent_id,
        credential_id=agent.credential_id,
        channel="http",
        idempotency_key=idempotency_key,
        traceparent=request.headers.get("traceparent"),
    )
    result = await submit_and_wait(parts, accepted, wait_s)
    location = {"Location": f"/api/v1/actions/{result.request_id}"}
    if result.state in FINAL_STATES:
        return _json(result, 200, location)
    return _json(result, 202, location)


async def submit_and_wait(parts: Parts, accepted: Accepted, wait_s: float | None) -> ActionResult:
    """Accept, then wait for the outcome if asked to; the latest state when the wait ends first."""
    if wait_s is None:
        return await parts.acceptance.accept(accepted)
    with parts.waiters.waiting(accepted.action.request_id) as outcome:
        result = await parts.acceptance.accept(accepted)
        if result.state in FINAL_STATES:
            return result
        if result.request_id != accepted.action.request_id:
            return await _wait_for_earlier(parts, result, wait_s)
        return await _outcome(parts, result, outcome, wait_s)


async def _wait_for_earlier(parts: Parts, result: ActionResult, wait_s: float) -> ActionResult:
    """The idempotency key named an action that is still under way: wait for that one."""
    with parts.waiters.waiting(result.request_id) as outcome:
        row = await parts.store.find(result.request_id)
        if row is not None and row.result.state in FINAL_STATES:
            return row.result
        return await _outcome(parts, result, outcome, wait_s)


async def _outcome(
    parts: Parts, result: ActionResult, outcome: asyncio.Future[ActionResult], wait_s: float
) -> ActionResult:
    try:
        async with asyncio.timeout(wait_s):
            return await outcome
    except TimeoutError:
        row = await parts.store.find(result.request_id)
        return parts.waiters.newer(row.result) if row else result


async def visible(parts: Parts, caller: Identity, request_id: str) -> ActionResult:
    """The action's state, if the caller may see it; an agent sees its own only."""
    if not is_request_id(request_id):
        raise CountersignError(f"{request_id!r} is not a request id", code="not_found")
    row = await parts.store.find(request_id)
    if row is None or (isinstance(caller, AgentIdentity) and row.result.agent_id != caller.agent_id):
        raise CountersignError(f"there is no action {request_id}", code="not_found")
    if isinstance(caller, PersonIdentity) and not caller.may("read"):
        raise Refused(f"{caller.name} may not read actions")
    return parts.waiters.newer(row.result)


@router.get("/{request_id}", response_model=ActionView)
async def get(
    request_id: str,
    caller: Viewer,
    parts: PartsOf,
    prefer: Annotated[str | None, Header(description="`wait=N`: wait N seconds for the outcome")] = None,
) -> Response:
    """One action: its state and outcome as a submission is answered, and what was asked for (`action`)."""
    wait_s = wait_seconds(prefer, default=parts.settings.default_wait_s, longest=parts.settings.max_wait_s)
    if wait_s is None:
        result = await visible(parts, caller, request_id)
    else:
        with parts.waiters.waiting(request_id) as outcome:
            result = await visible(parts, caller, request_id)
            if result.state not in FINAL_STATES:
                result = await _outcome(parts, result, outcome, wait_s)
    action = await parts.store.action(request_id)
    if action is None:
        raise CountersignError(f"there is no action {request_id}", code="not_found")
    return _json(ActionView.showing(result, action), 200)


@router.get("", response_model=ActionPage)
async def page(
    caller: Viewer,
    parts: PartsOf,
    state: Annotated[list[State], Query(default_factory=list, description="Repeat it for several: in any of them.")],
    agent_id: AgentId | None = None,
    session_id: SessionId | None = None,
    tool: ToolName | None = None,
    since: Time | None = None,
    until: Time | None = None,
    before: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    """Actions, newest first; an agent sees its own."""
    if isinstance(caller, AgentIdentity):
        if agent_id not in (None, caller.agent_id):
            raise Refused(f"agent {caller.agent_id} sees its own actions only")
        agent_id = caller.agent_id
    elif not caller.may("read"):
        raise Refused(f"{caller.name} may not read actions")
    if before is not None and not is_request_id(before):
        raise CountersignError("`before` takes the `next` of the page before", code="invalid")
    rows = await parts.store.page(
        agent_id=agent_id,
        session_id=session_id,
        states=state,
        tool=tool,
        since=since,
        until=until,
        before=before,
        limit=limit + 1,
    )
    items = tuple(parts.waiters.newer(row.result) for row in rows[:limit])
    return _json(ActionPage(items=items, next=items[-1].request_id if len(rows) > limit else None), 200)


@router.post("/{request_id}/cancel", response_model=ActionResult)
async def cancel(request_id: str, caller: Canceller, parts: PartsOf, body: CancelBody | None = None) -> Response:
    """Withdraw an action that is not granted yet; its own agent or an operator may."""
    result = await visible(parts, caller, request_id)
    by = caller.name if isinstance(caller, PersonIdentity) else f"agent:{caller.agent_id}"
    return _json(await parts.cancellation.cancel(result, by, body.reason if body else None), 200)


@router.post("/{request_id}/reconcile", response_model=ExecutionView)
async def reconcile(
    request_id: str,
    body: ReconcileBody,
    person: Annotated[PersonIdentity, Depends(Needs("reconcile"))],
    parts: PartsOf,
) -> Any:
    """Say what became of an action whose outcome is `unknown`."""
    await visible(parts, person, request_id)
    return await parts.bus.ask(
        ReconcileAction(request_id=request_id, outcome=body.outcome, by=person.name, note=body.note)
    )


@router.get("/{request_id}/execution", response_model=ExecutionView)
async def execution(request_id: str, person: Reader, parts: PartsOf) -> Any:
    """The execution as the executor has it."""
    await visible(parts, person, request_id)
    return await parts.bus.ask(GetExecution(request_id=request_id))
