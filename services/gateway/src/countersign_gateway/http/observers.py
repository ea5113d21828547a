"""Who may ask over NATS which agents run: made, listed and revoked."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from countersign_contracts.model import Frozen
from countersign_contracts.observation import (
    OBSERVES_AT_MOST_S,
    OBSERVES_S,
    IssuedObserver,
    IssueObserver,
    ListObservers,
    Observer,
    Observers,
    RevokeObserver,
)

from ..credentials import PersonIdentity
from .context import Needs, PartsOf
from .problems import RESPONSES

router = APIRouter(prefix="/api/v1/agents", responses=RESPONSES, tags=["agents"])

Operator = Annotated[PersonIdentity, Depends(Needs("fleet"))]


class ObserverBody(Frozen):
    """For how long."""

    lifetime_s: int = Field(default=OBSERVES_S, ge=10, le=OBSERVES_AT_MOST_S)


@router.post("/observers", response_model=IssuedObserver, status_code=201, name="issue_observer")
async def issue_observer(body: ObserverBody, person: Operator, parts: PartsOf) -> Any:
    """A NATS user that can ask which agents run (`nats micro ls`) and nothing else; the secret is shown this once."""
    return await parts.bus.ask(IssueObserver(lifetime_s=body.lifetime_s, by=person.name))


@router.get("/observers", response_model=Observers, name="observers")
async def observers(
    _: Operator,
    parts: PartsOf,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    after: Annotated[str | None, Query(max_length=64, pattern=r"^[a-z0-9_]*$")] = None,
) -> Any:
    """Who may ask over NATS which agents run, and who could within a day, the latest first."""
    return await parts.bus.ask(ListObservers(limit=limit, after=after))


@router.delete("/observers/{observer_id}", response_model=Observer, name="revoke_observer")
async def revoke_observer(
    observer_id: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")], person: Operator, parts: PartsOf
) -> Any:
    """Revoke an observer before it ends: nats-server refuses it, and drops its connections."""
    return await parts.bus.ask(RevokeObserver(observer_id=observer_id, by=person.name))
