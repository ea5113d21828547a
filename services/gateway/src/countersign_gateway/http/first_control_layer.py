"""The control layer's first API, as its document says, on the same code: ``POST /action``, ``GET /audit/timeline``,
``GET /health``. One thing is new: a credential is needed, since an agent id alone proves nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request, Response

from countersign_contracts.actions import ActionResult
from countersign_contracts.commands import ReadTimeline, Timeline, TimelineEntry
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import AgentId, Env, RequestId, SessionId, ToolName
from countersign_contracts.model import Frozen, rfc3339

from ..credentials import AgentIdentity, Identity
from ..submission import Submission, check_identity, read_submission
from .actions import submit_and_wait
from .context import Either, OnlyAgents, PartsOf, Public, body_of
from .problems import PROBLEM_CONTENT, RESPONSES

router = APIRouter(tags=["first control layer"], responses=RESPONSES)


class FirstRequest(Frozen):
    """The body of ``POST /action``."""

    agent_id: AgentId | None = None
    session_id: SessionId | None = None
    tool_name: ToolName
    tool_args: dict[str, Any]
    env: Env


class FirstResponse(Frozen):
    """What ``POST /action`` answers."""

    request_id: RequestId
    status: Literal["executed", "denied", "error"]
    decision: Literal["allow", "deny"]
    result: Any = None
    reason: str | None = None


def first_response(result: ActionResult) -> tuple[int, FirstResponse]:
    """The old words for a state, and the HTTP status that goes with them."""
    ended: dict[str, tuple[int, Literal["executed", "denied", "error"], Literal["allow", "deny"]]] = {
        "succeeded": (200, "executed", "allow"),
        "failed": (500, "error", "allow"),
        "unknown": (500, "error", "allow"),
        "denied": (403, "denied", "deny"),
        "expired": (403, "denied", "deny"),
        "cancelled": (403, "denied", "deny"),
    }
    code, status, decision = ended.get(result.state, (500, "error", "deny"))
    reason = result.reason
    if result.state not in ended:
        reason = f"still {result.state}; follow it at /api/v1/actions/{result.request_id}"
    body = FirstResponse(
        request_id=result.request_id, status=status, decision=decision, result=result.result, reason=reason
    )
    return code, body


@router.post(
    "/action",
    response_model=FirstResponse,
    responses={
        403: {"model": FirstResponse, "description": "Denied; or a problem", "content": PROBLEM_CONTENT},
        500: {"model": FirstResponse, "description": "Failed; or a problem", "content": PROBLEM_CONTENT},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": FirstRequest.model_json_schema()}},
        }
    },
)
async def action(
    request: Request,
    agent: Annotated[AgentIdentity, Depends(OnlyAgents("itself"))],
    parts: PartsOf,
    x_agent_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Ask for an action and block until it has ended, approval included."""
    first = read_submission(await body_of(request, parts.settings.max_body_bytes), FirstRequest)
    for named in (first.agent_id, x_agent_id):
        if named is not None and named != agent.agent_id and not parts.credentials.knows_agent(named):
            raise CountersignError(f"there is no agent {named}", code="not_found")
    check_identity(agent.agent_id, body=first.agent_id, header=x_agent_id)
    submission = Submission(tool=first.tool_name, args=first.tool_args, env=first.env, session_id=first.session_id)
    accepted = parts.acceptance.prepare(
        submission, agent_id=agent.agent_id, credential_id=agent.credential_id, channel="http"
    )
    result = await submit_and_wait(parts, accepted, parts.settings.first_control_layer_wait_s)
    code, body = first_response(result)
    return Response(orjson.dumps(body.model_dump()), code, media_type="application/json")


@router.get("/health", dependencies=[Depends(Public("that it lives"))])
async def first_health() -> dict[str, str]:
    """Alive."""
    return {"status": "healthy"}


@router.get("/audit/timeline")
async def first_timeline(
    caller: Annotated[Identity, Depends(Either("read", agents="its own trail"))],
    parts: PartsOf,
    agent_id: AgentId | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """The newest actions with their approvals and executions, from the ledger."""
    if isinstance(caller, AgentIdentity):
        check_identity(caller.agent_id, body=agent_id, header=None)
        agent_id = caller.agent_id
    requested: Timeline = await parts.bus.ask(
        ReadTimeline(agent_id=agent_id, kind="actions.requested", limit=limit, newest_first=True)
    )
    items = []
    for entry in requested.items:
        trail: Timeline = await parts.bus.ask(ReadTimeline(request_id=entry.request_id, limit=100))
        items.append(first_item(trail.items))
    return {"timeline": items}


def first_item(trail: tuple[TimelineEntry, ...]) -> dict[str, Any]:
    """One action of the trail in the old form."""
    item: dict[str, Any] = {
        "request_id": None,
        "agent_id": None,
        "action_type": None,
        "resource": None,
        "risk_level": None,
        "decision": "pending",
        "approvals": [],
        "executions": [],
        "guardrail_events": [],
    }
    for entry in trail:
        body = entry.body
        action = body.get("action", {})
        if entry.kind == "actions.requested":
            item["request_id"], item["agent_id"] = action.get("request_id"), action.get("agent_id")
            item["resource"] = action.get("tool")
        if decision := body.get("decision"):
            item["decision"] = {"hold": "pending"}.get(decision["outcome"], decision["outcome"])
            item["risk_level"] = decision.get("risk")
            item["action_type"] = decision.get("effect")
            item["guardrail_events"] = [
                {"guardrail": use["name"], "triggered": use.get("exceeded", False), "details": use}
                for use in decision.get("guardrails", [])
            ]
        if entry.kind == "approvals.resolved":
            item["approvals"] = [
                {
                    "status": body["state"],
                    "approver": vote["voter"],
                    "channel": vote["channel"],
                    "comment": vote.get("comment"),
                    "timestamp": vote["voted_at"],
                }
                for vote in body.get("votes", [])
            ] or [{"status": body["state"], "approver": None, "channel": None, "timestamp": body["resolved_at"]}]
        if entry.kind == "actions.executed":
            execution = body["execution"]
            item["executions"].append(
                {
                    "status": execution.get("status_code"),
                    "outcome": execution["outcome"],
                    "executed_at": rfc3339(entry.at),
                    "error": (execution.get("failure") or {}).get("message"),
                }
            )
    return item
