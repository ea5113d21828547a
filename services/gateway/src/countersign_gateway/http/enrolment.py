"""How agents come into the fleet over HTTP: packages, discovery tokens, registration, renewal; and orders for many."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Query, Request
from pydantic import Discriminator, Field, Tag

from countersign_contracts.enrolment import (
    Challenge,
    ChallengeAgent,
    CreateDiscoveryToken,
    DiscoveryToken,
    DiscoveryTokens,
    IssuedDiscoveryToken,
    ListDiscoveryTokens,
    OrderAgents,
    Ordered,
    Registered,
    RegisterWithToken,
    Registration,
    Renewal,
    RenewCredentials,
    Renewed,
    RevokeDiscoveryToken,
    TokenGrant,
)
from countersign_contracts.fleet import AgentStatus, AgentType
from countersign_contracts.ids import AgentId
from countersign_contracts.model import Frozen
from countersign_contracts.packages import ListPackages, Packages

from ..credentials import require_person
from ..submission import Words
from .agent import AgentDescription
from .context import Access, Operator, Parts, PartsOf, Public, Reader, Scheme, identify, parts_of
from .problems import AS_AGENT, AS_PERSON, RESPONSES

router = APIRouter(prefix="/api/v1/agents", responses=RESPONSES, tags=["agents"])

After = Annotated[str | None, Query(max_length=64, pattern=r"^[a-z0-9_-]*$")]

_ORDERS: dict[str, AgentStatus] = {"pause": "paused", "resume": "active", "revoke": "revoked"}


class AgentBody(AgentDescription):
    """A new agent, as a person describes it."""

    agent_id: AgentId


def _whose(body: Any) -> str:
    itself = isinstance(body, Registration) or (isinstance(body, dict) and "discovery_token" in body)
    return AS_AGENT if itself else AS_PERSON


#: What is posted to register: by a person, or with a discovery token by the agent itself.
EitherBody = Annotated[
    Annotated[AgentBody, Tag(AS_PERSON)] | Annotated[Registration, Tag(AS_AGENT)], Discriminator(_whose)
]


class Registrant:
    """A dependency: who registers an agent, a person who may, unless a discovery token stands in the body."""

    def __init__(self) -> None:
        self.access = Access(permission="fleet", public="an agent itself: a discovery token in the body")

    async def __call__(self, request: Request, _: Scheme) -> None:
        try:
            body = orjson.loads(await request.body())
        except orjson.JSONDecodeError:
            body = None
        if _whose(body) == AS_PERSON:
            request.state.registrant = require_person(identify(request, None), "fleet")


registrant = Registrant()


async def register_itself(said: Registration, parts: Parts) -> Registered:
    """What an agent is answered that registers itself."""
    registered: Registered = await parts.bus.ask(RegisterWithToken.of(said))
    await parts.agents.reach(registered.agent_id, registered.revision)
    return registered


@router.get("/packages", response_model=Packages)
async def packages(
    _: Reader, parts: PartsOf, limit: Annotated[int, Query(ge=1, le=500)] = 100, after: After = None
) -> Any:
    """Packages found in the registry's folders, by type; with the first page what is wrong in them."""
    return await parts.bus.ask(ListPackages(limit=limit, after=after))


class TokenBody(TokenGrant):
    """What whoever registers with the token becomes, and for how long and how often it is good."""

    expires_in_s: int = Field(default=3600, ge=1, le=31_536_000)
    uses: int = Field(default=1, ge=1, le=10_000, description="how many agents may register with it")


@router.post("/tokens", response_model=IssuedDiscoveryToken, status_code=201)
async def create_discovery_token(body: TokenBody, person: Operator, parts: PartsOf) -> Any:
    """A discovery token; its secret is shown this once."""
    grant = TokenGrant(**{name: getattr(body, name) for name in TokenGrant.model_fields})
    return await parts.bus.ask(
        CreateDiscoveryToken(grant=grant, expires_in_s=body.expires_in_s, uses=body.uses, by=person.name)
    )


@router.get("/tokens", response_model=DiscoveryTokens)
async def discovery_tokens(
    _: Operator, parts: PartsOf, limit: Annotated[int, Query(ge=1, le=500)] = 100, after: After = None
) -> Any:
    """Discovery tokens, the latest first, without their secrets."""
    return await parts.bus.ask(ListDiscoveryTokens(limit=limit, after=after))


@router.delete("/tokens/{token_id}", response_model=DiscoveryToken)
async def revoke_discovery_token(
    token_id: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")], person: Operator, parts: PartsOf
) -> Any:
    """Revoke a discovery token: nobody registers with it any more; who has stays registered."""
    return await parts.bus.ask(RevokeDiscoveryToken(token_id=token_id, by=person.name))


class OrderBody(Frozen):
    """An order for every agent of a team, of a type, or of both."""

    order: Literal["pause", "resume", "revoke"]
    team: Words | None = Field(default=None, min_length=1, max_length=128)
    agent_type: AgentType | None = None
    reason: Words = Field(min_length=1)


@router.post("/orders", response_model=Ordered)
async def order_agents(body: OrderBody, person: Operator, parts: PartsOf) -> Any:
    """Pause, resume or revoke many agents at once; each has an event of its own."""
    done: Ordered = await parts.bus.ask(
        OrderAgents(
            status=_ORDERS[body.order],
            team=body.team,
            agent_type=body.agent_type,
            reason=body.reason,
            by=person.name,
        )
    )
    await asyncio.gather(*(parts.agents.reach(each.agent_id, each.revision) for each in done.changed))
    return done


@router.post(
    "/{agent_id}/challenge",
    response_model=Challenge,
    dependencies=[Depends(Public("a nonce, worth nothing without the agent's key"))],
)
async def challenge(agent_id: AgentId, request: Request) -> Any:
    """A nonce for the agent to sign with its NATS key, to renew its credentials. No credential is needed."""
    return await parts_of(request).bus.ask(ChallengeAgent(agent_id=agent_id))


@router.post(
    "/{agent_id}/renew",
    response_model=Renewed,
    dependencies=[Depends(Public("the signature of the agent's key in the body"))],
)
async def renew(agent_id: AgentId, body: Renewal, parts: PartsOf) -> Any:
    """New credentials for the agent that proves to hold the NATS key it registered with. No credential is needed."""
    renewed: Renewed = await parts.bus.ask(RenewCredentials(agent_id=agent_id, renewal=body))
    await parts.agents.reach(agent_id, renewed.revision)
    return renewed
