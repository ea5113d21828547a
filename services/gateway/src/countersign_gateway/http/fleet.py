"""Agents: what the registry does."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from countersign_contracts.commands import (
    Agents,
    AgentView,
    GetAgent,
    IssueCredentials,
    IssuedCredentials,
    ListAgents,
    RegisterAgent,
    SetAgentStatus,
)
from countersign_contracts.enrolment import Registered, Registration
from countersign_contracts.fleet import AgentPhase, AgentStatus, AgentType
from countersign_contracts.ids import AgentId
from countersign_contracts.model import Frozen

from ..credentials import AgentIdentity, PersonIdentity
from ..submission import Words
from .agent import etag
from .context import OnlyAgents, Operator, Parts, PartsOf, Reader, body_of
from .enrolment import EitherBody, register_itself, registrant
from .problems import RESPONSES

router = APIRouter(prefix="/api/v1", responses=RESPONSES)


class StatusBody(Frozen):
    """Why."""

    reason: Words = Field(min_length=1)


class CredentialsBody(Frozen):
    """Which credentials; `replace` voids the older ones of those kinds."""

    kinds: tuple[Literal["http", "nats"], ...] = ("http", "nats")
    lifetime_s: int | None = Field(default=None, gt=0, le=31_536_000)
    replace: bool = False


async def _seen(parts: Parts, view: AgentView) -> AgentView:
    """Answer only when this gateway itself acts on the change."""
    await parts.agents.reach(view.agent.agent_id, view.agent.revision)
    return view


@router.get("/agents", response_model=Agents, tags=["agents"])
async def agents(
    _: Reader,
    parts: PartsOf,
    status: AgentStatus | None = None,
    phase: AgentPhase | None = None,
    team: Words | None = None,
    agent_type: AgentType | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    after: Words | None = None,
) -> Any:
    """Agents, by id."""
    asked = ListAgents(status=status, phase=phase, team=team, agent_type=agent_type, limit=limit, after=after)
    # as the registry wrote it: reading and writing hundreds of records again would take most of the time
    return Response(await parts.bus.ask_bytes(asked), media_type="application/json")


@router.post(
    "/agents",
    response_model=AgentView | Registered,
    status_code=201,
    tags=["agents"],
    dependencies=[Depends(registrant)],
)
async def register(body: EitherBody, request: Request, parts: PartsOf) -> Any:
    """Register an agent: a person describes it, or it registers itself with a discovery token and no credential."""
    if isinstance(body, Registration):
        return await register_itself(body, parts)
    person: PersonIdentity = request.state.registrant
    view = await parts.bus.ask(RegisterAgent(agent_id=body.agent_id, **body.described(), by=person.name))
    return await _seen(parts, view)


@router.get("/agents/{agent_id}", response_model=AgentView, tags=["agents"])
async def agent(agent_id: AgentId, _: Reader, parts: PartsOf, response: Response) -> Any:
    """One agent, and when it was last heard of."""
    view: AgentView = await parts.bus.ask(GetAgent(agent_id=agent_id))
    response.headers["ETag"] = etag(view)
    return view


@router.post("/heartbeat", status_code=204, tags=["agents"])
async def heartbeat(
    agent: Annotated[AgentIdentity, Depends(OnlyAgents("itself"))], request: Request, parts: PartsOf
) -> Response:
    """An agent says that it lives; the same as publishing its heartbeat over NATS."""
    await parts.ingress.forward_heartbeat(agent.agent_id, await body_of(request, 4096))
    return Response(status_code=204)


def _status_path(verb: str, status: AgentStatus, doc: str) -> None:
    async def order(agent_id: AgentId, body: StatusBody, person: Operator, parts: PartsOf) -> Any:
        view = await parts.bus.ask(SetAgentStatus(agent_id=agent_id, status=status, reason=body.reason, by=person.name))
        return await _seen(parts, view)

    order.__doc__ = doc
    router.post(f"/agents/{{agent_id}}/{verb}", response_model=AgentView, tags=["agents"], name=f"{verb}_agent")(order)


_status_path("pause", "paused", "Deny the agent's actions until it is resumed.")
_status_path("resume", "active", "Let a paused agent act again.")
_status_path("revoke", "revoked", "Void the agent's credentials for good and drop its connection.")


@router.post("/agents/{agent_id}/credentials", response_model=IssuedCredentials, status_code=201, tags=["agents"])
async def credentials(agent_id: AgentId, body: CredentialsBody, person: Operator, parts: PartsOf) -> Any:
    """Issue credentials; the secrets are shown this once."""
    issued: IssuedCredentials = await parts.bus.ask(
        IssueCredentials(
            agent_id=agent_id,
            kinds=body.kinds,
            lifetime_s=body.lifetime_s,
            replace=body.replace,
            by=person.name,
        )
    )
    await parts.agents.reach(agent_id, issued.revision)
    return issued
