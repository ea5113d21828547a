"""Stops, the trail, and declared changes: what people do."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from countersign_contracts.catalogue import Document, FileError
from countersign_contracts.commands import (
    ExportLedger,
    ExportPage,
    GetLedgerHead,
    LedgerHead,
    LiftStop,
    ListStops,
    ListTools,
    ReadTimeline,
    SetStop,
    Stops,
    Timeline,
    Tools,
)
from countersign_contracts.control import DeclaredChange, Stop, StopScope
from countersign_contracts.errors import Refused, Unavailable
from countersign_contracts.ids import AgentId, RequestId, SessionId
from countersign_contracts.model import Frozen, Time

from ..credentials import AgentIdentity, Identity, PersonIdentity
from ..submission import Words
from .context import Either, Needs, PartsOf, Reader
from .problems import RESPONSES

#: A sequence of the ledger is a 64-bit number there.
MAX_SEQ = 2**63 - 1

router = APIRouter(prefix="/api/v1", responses=RESPONSES)


class StopBody(Frozen):
    """What to stop, and why."""

    scope: StopScope
    reason: Words = Field(min_length=1)


class ApplyBody(Frozen):
    """Declared files: tools, profiles, policies, agents, approval rules, alert rules and webhooks."""

    documents: tuple[Document, ...] = Field(max_length=1000)
    dry_run: bool = False


class ApplyResult(Frozen):
    """What changed, or what is wrong. With errors nothing was changed."""

    change_id: str | None = None
    applied: bool
    errors: tuple[FileError, ...] = ()
    changes: tuple[DeclaredChange, ...] = ()


@router.get("/stops", response_model=Stops, tags=["stops"])
async def stops(_: Reader, parts: PartsOf, lifted: bool = False) -> Any:
    """Stops in force; with `lifted` the lifted ones too."""
    return await parts.bus.ask(ListStops(lifted=lifted))


@router.post("/stops", response_model=Stop, status_code=201, tags=["stops"])
async def set_stop(body: StopBody, person: Annotated[PersonIdentity, Depends(Needs("stop"))], parts: PartsOf) -> Any:
    """Once this is answered, no execution in the scope starts."""
    try:
        stop: Stop = await parts.bus.ask(SetStop(scope=body.scope, reason=body.reason, by=person.name))
    except Unavailable as error:
        raise Unavailable(f"{error.detail}. The stop is not confirmed: order it again until it is") from None
    return stop


@router.delete("/stops/{stop_id}", response_model=Stop, tags=["stops"])
async def lift_stop(stop_id: Words, person: Annotated[PersonIdentity, Depends(Needs("stop"))], parts: PartsOf) -> Any:
    """Lift a stop."""
    return await parts.bus.ask(LiftStop(stop_id=stop_id, by=person.name))


@router.get("/audit/timeline", response_model=Timeline, tags=["audit"])
async def timeline(
    caller: Annotated[Identity, Depends(Either("read", agents="its own trail"))],
    parts: PartsOf,
    agent_id: AgentId | None = None,
    session_id: SessionId | None = None,
    request_id: RequestId | None = None,
    kind: Annotated[str | None, Query(pattern=r"^[a-z_.]{0,128}$")] = None,
    since: Time | None = None,
    until: Time | None = None,
    after: Annotated[int, Query(ge=0, le=MAX_SEQ)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    newest_first: bool = False,
) -> Any:
    """The trail: who, what, why, when, who approved, what ran. An agent reads its own."""
    if isinstance(caller, AgentIdentity):
        if agent_id not in (None, caller.agent_id):
            raise Refused(f"agent {caller.agent_id} reads its own trail only")
        agent_id = caller.agent_id
    return await parts.bus.ask(
        ReadTimeline(
            agent_id=agent_id,
            session_id=session_id,
            request_id=request_id,
            kind=kind,
            since=since,
            until=until,
            after=after,
            limit=limit,
            newest_first=newest_first,
        )
    )


@router.get("/audit/head", response_model=LedgerHead, tags=["audit"])
async def head(_: Reader, parts: PartsOf) -> Any:
    """The ledger's last entry."""
    return await parts.bus.ask(GetLedgerHead())


@router.get("/audit/export", response_model=ExportPage, tags=["audit"])
async def export(
    _: Reader,
    parts: PartsOf,
    first_seq: Annotated[int, Query(ge=1, le=MAX_SEQ)] = 1,
    next: Annotated[int | None, Query(ge=1, le=MAX_SEQ)] = None,
    last_seq: Annotated[int | None, Query(ge=0, le=MAX_SEQ)] = None,
) -> Any:
    """A page of an export's lines; `countersign audit export` puts the pages together."""
    return await parts.bus.ask(ExportLedger(first_seq=first_seq, next=next, last_seq=last_seq))


@router.get("/tools", response_model=Tools, tags=["declared"])
async def tools(_: Annotated[Identity, Depends(Either("read", agents="every tool"))], parts: PartsOf) -> Any:
    """The tool catalogue."""
    return await parts.bus.ask(ListTools())


@router.post("/apply", response_model=ApplyResult, tags=["declared"])
async def apply(
    body: ApplyBody, person: Annotated[PersonIdentity, Depends(Needs("declare"))], parts: PartsOf
) -> ApplyResult:
    """Validate all the files, then apply all of them or nothing."""
    outcome = await parts.changes.apply(body.documents, by=person.name, dry_run=body.dry_run)
    return ApplyResult(
        change_id=outcome.change_id, applied=outcome.applied, errors=outcome.errors, changes=outcome.changes
    )
