"""Dead letters: what a service gave up on, and what people do with it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field

from countersign_contracts.command import Done
from countersign_contracts.model import Frozen

from ..credentials import PersonIdentity
from ..dead_letters import DeadLetterContent, DeadLetterPage, RedriveResult
from .context import Needs, PartsOf
from .problems import RESPONSES

router = APIRouter(prefix="/api/v1/deadletters", responses=RESPONSES, tags=["dead letters"])

Mender = Annotated[PersonIdentity, Depends(Needs("deadletters"))]
Seq = Annotated[int, Path(ge=1, le=2**63 - 1, description="its sequence in stream DEADLETTER")]


class WhyBody(Frozen):
    """Why; it goes on record with who."""

    reason: str = Field(min_length=1, max_length=2000)


@router.get("", response_model=DeadLetterPage)
async def dead_letters(
    _: Mender,
    parts: PartsOf,
    stream: str | None = None,
    consumer: str | None = None,
    after: Annotated[int, Query(ge=0, le=2**63 - 2)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> Any:
    """Open dead letters, oldest first."""
    return await parts.dead_letters.page(stream=stream, reader=consumer, after=after, limit=limit)


@router.get("/{seq}", response_model=DeadLetterContent)
async def dead_letter(seq: Seq, _: Mender, parts: PartsOf) -> Any:
    """One dead letter, with the message as it was received."""
    return await parts.dead_letters.show(seq)


@router.post("/{seq}/redrive", response_model=RedriveResult)
async def redrive_dead_letter(seq: Seq, body: WhyBody, person: Mender, parts: PartsOf) -> Any:
    """Have its own service handle the message again, exactly as the first time."""
    return await parts.dead_letters.redrive(seq, person.name, body.reason)


@router.post("/{seq}/drop", response_model=Done)
async def drop_dead_letter(seq: Seq, body: WhyBody, person: Mender, parts: PartsOf) -> Any:
    """End it unhandled."""
    await parts.dead_letters.drop(seq, person.name, body.reason)
    return Done()
