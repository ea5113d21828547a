"""What agents tell of their work, for people: logs and metrics by pages, logs live, and health."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from countersign_contracts.command import Command
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import AgentId
from countersign_contracts.model import Time, now
from countersign_contracts.telemetry import (
    AgentHealth,
    LogBatch,
    LogLevel,
    LogPage,
    MetricReport,
    MetricsPage,
    ReadHealth,
    ReadLogs,
    ReadMetrics,
)

from ..credentials import AgentIdentity, require_person
from ..following_agents import AgentFollower, Interest
from ..submission import Words
from .context import OnlyAgents, Parts, PartsOf, Reader, body_of
from .problems import RESPONSES

router = APIRouter(prefix="/api/v1", tags=["telemetry"], responses=RESPONSES)

Itself = Annotated[AgentIdentity, Depends(OnlyAgents("its own telemetry"))]
Level = Annotated[LogLevel | None, Query(description="this level and above", examples=["warning"])]
Text = Annotated[
    Words | None, Query(min_length=1, max_length=256, description="in any letter case", examples=["timed out"])
]
Since = Annotated[
    Time | None, Query(description="of then or later, by the agent's clock", examples=["2026-01-31T12:00:00Z"])
]
Until = Annotated[Time | None, Query(description="of before then", examples=["2026-01-31T13:00:00Z"])]
Before = Annotated[Words | None, Query(max_length=256, description="the `next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=500)]


class _EventStream(StreamingResponse):
    media_type = "text/event-stream"


_LOG = {
    "at": "2026-01-31T12:00:00.120000Z",
    "level": "warning",
    "text": "the shop answered slowly",
    "logger": "stock.shop",
    "fields": {"order": "A503", "seconds": 4.2},
    "id": "01a1fc71-28c4-7d0e-b0a9-6f2d31c58e17.0",
    "received_at": "2026-01-31T12:00:00.840000Z",
}
_SUMMARY = {
    "reports": 60,
    "covered_s": 3600.0,
    "events_succeeded": 1188,
    "events_failed": 12,
    "error_share": 0.01,
    "events_per_second": 0.333,
    "processing_mean_s": 0.08,
    "cpu_share": 0.03,
    "memory_bytes": 61865984,
}
_REPORT = {
    "batch": "01a1fc71-28c5-7a4e-9f10-2b3c4d5e6f70",
    "at": "2026-01-31T12:01:00.000000Z",
    "interval_s": 60.0,
    "events_succeeded": 20,
    "events_failed": 0,
    "processing_s": 1.6,
    "cpu_s": 1.8,
    "memory_bytes": 61865984,
    "values": {"queue_length": 3.0},
    "received_at": "2026-01-31T12:01:00.310000Z",
}
_HEALTH = {
    "agent_id": "stock-watch-01a1fc71-28c4-7d0e-b0a9-6f2d31c58e17",
    "healthy": False,
    "reasons": ["nothing heard of it since 2026-01-31T11:58:03Z"],
    "status": "active",
    "phase": "failed",
    "phase_since": "2026-01-31T11:59:33.000000Z",
    "last_seen_at": "2026-01-31T11:58:03.000000Z",
    "heartbeat_s": 30,
    "said": {"status": "healthy", "version": "1.0.0", "uptime_s": 7200.0, "load": 0.2},
    "last_hour": _SUMMARY,
    "errors_last_hour": 2,
}


def _example(value: Any) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": value}}}}


async def _answered(parts: Parts, asked: Command) -> Response:
    """As the registry wrote it: reading and writing hundreds of records again would take most of the time."""
    return Response(await parts.bus.ask_bytes(asked), media_type="application/json")


@router.get(
    "/agents/{agent_id}/logs",
    response_model=LogPage,
    name="agent_logs",
    responses=_example({"items": [_LOG], "next": "MjAyNi0wMS0zMVQxMjowMDowMA"}),
)
async def logs(
    agent_id: AgentId,
    _: Reader,
    parts: PartsOf,
    level: Level = None,
    text: Text = None,
    since: Since = None,
    until: Until = None,
    before: Before = None,
    limit: Limit = 100,
) -> Response:
    """An agent's log, newest first. A search that looked at much and found little ends early: go on with `next`."""
    asked = ReadLogs(agent_id=agent_id, level=level, text=text, since=since, until=until, before=before, limit=limit)
    return await _answered(parts, asked)


@router.get(
    "/agents/{agent_id}/logs/live",
    response_class=_EventStream,
    name="follow_agent_logs",
    responses={
        200: {
            "description": "Server-sent events, for as long as you listen: event `log`, whose `data` has the agent's"
            " record as `log`; event `lost`: read the page again; event `end`: this gateway stops, or your token is"
            " void",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def live_logs(
    agent_id: AgentId, request: Request, _: Reader, parts: PartsOf, level: Level = None, text: Text = None
) -> StreamingResponse:
    """An agent's log from now on, as the agent says it.

    Records before the connection are not repeated: once this is answered, read the page. A record has the same `id`
    here and there. For several agents, their metrics and what becomes of them: the WebSocket `/api/v1/agents/ws`.
    """
    known(parts, agent_id)
    follower = parts.following_agents.follow("events")
    try:
        interest = Interest(frozenset([agent_id]), frozenset(["logs"]), level, text)
        await parts.following_agents.turn_to(follower, interest)
    except BaseException:
        parts.following_agents.leave(follower)
        raise
    may_go_on = still_allowed(parts, request.headers.get("authorization"))
    return _EventStream(_told(parts, follower, may_go_on), headers={"Cache-Control": "no-store"})


async def _told(parts: Parts, follower: AgentFollower, may_go_on: Any) -> AsyncIterator[bytes]:
    try:
        async for said in follower.events(parts.settings.events_keep_alive_s, may_go_on):
            yield said
    finally:
        parts.following_agents.leave(follower)


@router.get(
    "/agents/{agent_id}/metrics",
    response_model=MetricsPage,
    name="agent_metrics",
    responses=_example({"items": [_REPORT], "summary": _SUMMARY}),
)
async def metrics(
    agent_id: AgentId,
    _: Reader,
    parts: PartsOf,
    since: Since = None,
    until: Until = None,
    before: Before = None,
    limit: Limit = 100,
) -> Response:
    """An agent's reports, newest first, and all of that time together; the last hour where nothing is said."""
    asked = ReadMetrics(agent_id=agent_id, since=since, until=until, before=before, limit=limit)
    return await _answered(parts, asked)


@router.get("/agents/{agent_id}/health", response_model=AgentHealth, name="agent_health", responses=_example(_HEALTH))
async def health(agent_id: AgentId, _: Reader, parts: PartsOf) -> Response:
    """Whether an agent does well; if not, why."""
    return await _answered(parts, ReadHealth(agent_id=agent_id))


def _taken(model: type[LogBatch] | type[MetricReport]) -> dict[str, Any]:
    schema = model.model_json_schema()
    for name, inner in schema.pop("$defs", {}).items():
        schema["properties"]["records"]["items"] = inner | {"title": name}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post("/telemetry/logs", status_code=204, name="tell_logs", openapi_extra=_taken(LogBatch))
async def tell_logs(request: Request, agent: Itself, parts: PartsOf) -> Response:
    """An agent says what is in its log; the same as publishing it over NATS. A batch that comes again is kept once."""
    return await _told_by(agent, "logs", request, parts)


@router.post("/telemetry/metrics", status_code=204, name="tell_metrics", openapi_extra=_taken(MetricReport))
async def tell_metrics(request: Request, agent: Itself, parts: PartsOf) -> Response:
    """An agent says what it did in the last seconds; the same as publishing it over NATS, as its log."""
    return await _told_by(agent, "metrics", request, parts)


async def _told_by(agent: AgentIdentity, verb: Literal["logs", "metrics"], request: Request, parts: Parts) -> Response:
    await parts.telling.take(agent.agent_id, verb, await body_of(request, parts.settings.max_body_bytes))
    return Response(status_code=204)


def known(parts: Parts, *agents: str) -> None:
    """Raises `not_found` for an agent that there is none of."""
    for agent_id in agents:
        if not parts.credentials.knows_agent(agent_id):
            raise CountersignError(f"there is no agent {agent_id}", code="not_found")


def still_allowed(parts: Parts, authorization: str | None) -> Any:
    """Says why whoever follows may not go on: the token is void, or may not read any more."""

    def may_go_on() -> str | None:
        try:
            require_person(parts.credentials.identify(authorization, now()), "read")
        except CountersignError as error:
            return error.detail
        return None

    return may_go_on
