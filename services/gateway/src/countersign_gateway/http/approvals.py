"""``/api/v1/approvals``: what waits for people, their votes, standing approvals, and what happens to them, live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field, model_validator

from countersign_contracts.actions import Risk
from countersign_contracts.approval_commands import (
    Approvals,
    ApprovalView,
    CastVote,
    GetApproval,
    ListApprovals,
    ListStandings,
    RevokeStanding,
    Standings,
)
from countersign_contracts.approval_rules import Assurance
from countersign_contracts.approvals import ApprovalState, Standing, StandingOffer
from countersign_contracts.canonical import canonical
from countersign_contracts.conditions import ArgumentName
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import AgentId, Digest, Env, RequestId, ToolName
from countersign_contracts.model import Frozen, Time, now
from countersign_contracts.people_commands import OneTimeCode, VerifyTotp

from ..credentials import PersonIdentity
from ..followers import Follower
from ..submission import Words, check_shape
from .context import Needs, Parts, PartsOf, Reader
from .problems import RESPONSES

router = APIRouter(prefix="/api/v1/approvals", tags=["approvals"], responses=RESPONSES)

Voter = Annotated[PersonIdentity, Depends(Needs("vote"))]

#: Approvals that one step votes on, and how many of them at once.
MOST_AT_ONCE = 100
_CONCURRENTLY = 16
#: The longest canonical form of what an approver changes, in bytes.
_MOST_CHANGES = 65_536

Code = Annotated[OneTimeCode, Field(description="a fresh one-time code: six digits")]


class StandingBody(Frozen):
    """Allow alike actions ahead: the same tool by the same agent in the same environment."""

    for_s: int | None = Field(default=None, ge=1, le=604_800, description="how long, in seconds; or `until`")
    until: Time | None = None
    max_uses: int = Field(ge=1, le=10_000)
    resource: Words | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="pattern of the resource, `*` being any text; without it, exactly the one of this action",
    )

    @model_validator(mode="after")
    def _one_end(self) -> StandingBody:
        if (self.for_s is None) is (self.until is None):
            raise ValueError("give either `for_s` or `until`")
        return self


class Voting(Frozen):
    """What every vote says."""

    vote: Literal["approve", "reject"]
    comment: Words | None = None
    channel: Literal["http", "cli"] = "http"
    code: Code | None = None


class VoteBody(Voting):
    """A vote on the arguments that the digest names."""

    digest: Digest
    changes: dict[ArgumentName, Any] | None = Field(
        default=None, max_length=64, description="approve with these arguments instead; null: without it"
    )
    standing: StandingBody | None = None

    @model_validator(mode="after")
    def _only_approving(self) -> VoteBody:
        if self.vote == "reject" and (self.changes is not None or self.standing is not None):
            raise ValueError("only who approves can change arguments or allow more ahead")
        return self


class Ballot(Frozen):
    """One approval of several, and the digest that was seen of it."""

    approval_id: Words = Field(min_length=1)
    digest: Digest


class VotesBody(Voting):
    """One vote on each of several approvals."""

    items: tuple[Ballot, ...] = Field(min_length=1, max_length=MOST_AT_ONCE)


class Counted(Frozen):
    """What became of one vote of several: the approval's state, or the problem (RFC 9457) that it met."""

    approval_id: str
    digest: Digest
    state: ApprovalState | None = None
    waits_for: tuple[str, ...] = ()
    problem: dict[str, Any] | None = None


class Tally(Frozen):
    """An answer for each vote, in the order they were sent."""

    items: tuple[Counted, ...]


@router.get("", response_model=Approvals)
async def approvals(
    person: Reader,
    parts: PartsOf,
    state: ApprovalState | None = None,
    agent_id: AgentId | None = None,
    request_id: RequestId | None = None,
    tool: ToolName | None = None,
    env: Env | None = None,
    risk: Risk | None = None,
    mine: Annotated[bool, Query(description="only what you may vote on now")] = False,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Words | None = None,
) -> Any:
    """Approvals, newest first."""
    asked = ListApprovals(
        state=state,
        agent_id=agent_id,
        request_id=request_id,
        tool=tool,
        env=env,
        risk=risk,
        voter=person.name if mine else None,
        limit=limit,
        after=after,
    )
    # a page of large actions is not read once more to be written the same
    return Response(await parts.bus.ask_bytes(asked), media_type="application/json")


class _EventStream(StreamingResponse):
    media_type = "text/event-stream"


@router.get(
    "/events",
    response_class=_EventStream,
    name="follow_approvals",
    responses={
        200: {
            "description": "Server-sent events, for as long as you listen: `data` is the JSON of what happened; event"
            " `lost`: read what is pending again; event `end`: this gateway stops, or your token is void",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def events(request: Request, _: Reader, parts: PartsOf) -> StreamingResponse:
    """What happens to approvals from now on, as it happens.

    Events before the connection are not repeated: once this is answered, read the list.
    """
    authorization = request.headers.get("authorization")

    def may_go_on() -> str | None:
        try:
            Needs("read")(parts.credentials.identify(authorization, now()))
        except CountersignError as error:
            return error.detail
        return None

    follower = parts.following.follow()
    return _EventStream(_told(parts, follower, may_go_on), headers={"Cache-Control": "no-store"})


async def _told(parts: Parts, follower: Follower, may_go_on: Any) -> AsyncIterator[bytes]:
    try:
        async for said in follower.events(parts.settings.events_keep_alive_s, may_go_on):
            yield said
    finally:
        parts.following.leave(follower)


@router.post("/votes", response_model=Tally, name="vote_on_several")
async def vote_on_several(body: VotesBody, person: Voter, parts: PartsOf) -> Tally:
    """Vote the same on several approvals, each with its own digest; one that fails stops none of the others."""
    assurance = await _assurance(parts, person, body.code)
    gate = asyncio.Semaphore(_CONCURRENTLY)

    async def one(ballot: Ballot) -> Counted:
        async with gate:
            try:
                view: ApprovalView = await parts.bus.ask(
                    _cast(person, ballot.approval_id, ballot.digest, body, assurance)
                )
            except CountersignError as error:
                return Counted(approval_id=ballot.approval_id, digest=ballot.digest, problem=error.problem())
        return Counted(approval_id=view.approval_id, digest=ballot.digest, state=view.state, waits_for=view.waits_for)

    return Tally(items=tuple(await asyncio.gather(*(one(ballot) for ballot in body.items))))


@router.get("/standing", response_model=Standings, name="standing_approvals")
async def standings(
    _: Reader,
    parts: PartsOf,
    in_force: Annotated[bool, Query(description="false: also what is used up, past or revoked")] = True,
    agent_id: AgentId | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Words | None = None,
) -> Any:
    """Standing approvals, newest first: what is approved ahead, and how much of it is used."""
    return await parts.bus.ask(ListStandings(in_force=in_force, agent_id=agent_id, limit=limit, after=after))


@router.delete("/standing/{standing_id}", response_model=Standing, name="revoke_standing_approval")
async def revoke_standing(
    standing_id: Words,
    person: Annotated[PersonIdentity, Depends(Needs("revoke"))],
    parts: PartsOf,
    reason: Annotated[Words, Query(min_length=1, description="why; everyone sees it")],
) -> Any:
    """Once this is answered, nothing more is approved by it."""
    return await parts.bus.ask(RevokeStanding(standing_id=standing_id, by=person.name, reason=reason))


@router.get("/{approval_id}", response_model=ApprovalView)
async def approval(approval_id: Words, _: Reader, parts: PartsOf) -> Any:
    """One approval, by its id or its action's: the exact arguments, their digest, and whom it waits for."""
    return Response(await parts.bus.ask_bytes(GetApproval(approval_id=approval_id)), media_type="application/json")


@router.post("/{approval_id}/votes", response_model=ApprovalView)
async def vote(approval_id: Words, body: VoteBody, person: Voter, parts: PartsOf) -> Any:
    """Approve or reject; `digest` is the one you saw. With `changes` another action is asked for, and decided anew."""
    if body.changes is not None:
        check_shape(body.changes)
        if (size := len(canonical(body.changes))) > _MOST_CHANGES:
            raise CountersignError(f"`changes` has {size} bytes; at most {_MOST_CHANGES} are taken", code="too_large")
    offer = None if body.standing is None else await _offer(parts, approval_id, body.standing, now())
    assurance = await _assurance(parts, person, body.code)
    return await parts.bus.ask(
        _cast(person, approval_id, body.digest, body, assurance, changes=body.changes, standing=offer)
    )


def _cast(
    person: PersonIdentity, approval_id: str, digest: str, said: Voting, assurance: Assurance, **more: Any
) -> CastVote:
    return CastVote(
        approval_id=approval_id,
        voter=f"person:{person.name}",
        vote=said.vote,
        digest=digest,
        channel=said.channel,
        comment=said.comment,
        assurance=assurance,
        **more,
    )


async def _assurance(parts: Parts, person: PersonIdentity, code: str | None) -> Assurance:
    """How sure it is who votes. Raises what the registry says of a code that does not count; then nothing is voted."""
    if code is None:
        return "basic"
    try:
        await parts.bus.ask(VerifyTotp(name=person.name, code=code))
    except CountersignError as error:
        raise CountersignError(f"{error.detail}; nothing was voted", code=error.code, **error.extra) from None
    return "strong"


async def _offer(parts: Parts, approval_id: str, body: StandingBody, at: datetime) -> StandingOffer:
    """What is allowed ahead, with its end and its resource."""
    until = body.until if body.for_s is None else at + timedelta(seconds=body.for_s)
    if until is None or until <= at:
        raise CountersignError("body.standing.until: it is past already; name a time to come", code="invalid")
    resource = body.resource
    if resource is None:
        view: ApprovalView = await parts.bus.ask(GetApproval(approval_id=approval_id))
        resource = view.resource
        if resource is None:
            raise _no_resource(
                "what this action touches is not known: its tool declares none; nothing alike can be allowed ahead"
            )
        if "*" in resource or len(resource) > 512:
            # an agent chose these characters: they must not become a pattern unseen
            raise _no_resource(f"{resource[:200]!r} cannot stand for itself; send a pattern, where `*` is any text")
    return StandingOffer(resource=resource, until=until, max_uses=body.max_uses)


def _no_resource(why: str) -> CountersignError:
    return CountersignError(f"body.standing.resource: {why}", code="invalid")
