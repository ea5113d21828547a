"""Tokens that last minutes: exchanged for a person's own token or a refresh token, listed, and ended."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from countersign_contracts.access_token import looks_like_one
from countersign_contracts.approval_rules import PersonName
from countersign_contracts.enrolment import token_sha256
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import person_key
from countersign_contracts.logins import (
    EndedLogin,
    EndLogin,
    IssuedAccess,
    ListLogins,
    LogIn,
    LoginId,
    Logins,
    RefreshLogin,
)
from countersign_contracts.model import Frozen
from countersign_contracts.provider_commands import DescribeProvider, LogInWithProvider, Provider, ProviderCode

from ..credentials import PersonIdentity, bearer, require_person
from .context import Access, Caller, PartsOf, Public, Scheme
from .problems import RESPONSES

router = APIRouter(prefix="/api/v1/tokens", responses=RESPONSES, tags=["people"])


class ExchangeBody(Frozen):
    """What is exchanged: a refresh token, a code of the OpenID provider, or a person's token in `Authorization`."""

    refresh_token: Annotated[str, Field(pattern=r"^csr_[A-Za-z0-9_-]{43}$")] | None = None
    provider: ProviderCode | None = None


@router.post(
    "",
    response_model=IssuedAccess,
    status_code=201,
    dependencies=[
        Depends(Public("what is exchanged: a person's own token, a refresh token or a code of the provider"))
    ],
)
async def exchange(
    request: Request, parts: PartsOf, response: Response, _: Scheme, body: ExchangeBody | None = None
) -> Any:
    """An access token for minutes, and a refresh token that gets the next one, once.

    With the person's own token as bearer, or with a code of the provider, a login starts; with a refresh token one
    goes on.
    """
    response.headers["Cache-Control"] = "no-store"
    order = _order(request.headers.get("authorization"), body or ExchangeBody())
    issued: IssuedAccess = await parts.bus.ask(order)
    await parts.logins.reach(person_key(issued.name), issued.revision)
    return issued


@router.get(
    "/provider",
    response_model=Provider,
    dependencies=[Depends(Public("where people log in, which they must know before they have"))],
)
async def provider(parts: PartsOf) -> Any:
    """The OpenID provider that people log in with, where there is one."""
    return await parts.bus.ask(DescribeProvider())


def _order(authorization: str | None, body: ExchangeBody) -> LogIn | RefreshLogin | LogInWithProvider:
    if body.refresh_token is not None and body.provider is not None:
        raise CountersignError("send `refresh_token` or `provider`, not both", code="invalid")
    if body.provider is not None:
        return LogInWithProvider(proof=body.provider)
    if body.refresh_token is not None:
        return RefreshLogin(refresh_sha256=token_sha256(body.refresh_token))
    token = bearer(authorization)
    if looks_like_one(token):
        raise CountersignError(
            "an access token is exchanged for nothing: send the refresh token that came with it as `refresh_token`,"
            " or your own token as bearer",
            code="unauthenticated",
        )
    return LogIn(token_sha256=token_sha256(token))


class Whose:
    """A dependency: whose logins are meant, one's own, or anybody's for who may change people."""

    def __init__(self) -> None:
        self.access = Access(permission="read", others="people")

    def __call__(
        self, caller: Caller, person: Annotated[PersonName | None, Query(description="of whom; by an admin")] = None
    ) -> str:
        me = require_person(caller, "read")
        if person is None or person == me.name:
            return me.name
        require_person(caller, "people")
        return person


class Ends:
    """A dependency: who ends a login, their own, or anybody's who may change people; the registry sees whose it is."""

    def __init__(self) -> None:
        self.access = Access(permission="read", others="people")

    def __call__(self, caller: Caller) -> PersonIdentity:
        return require_person(caller, "read")


@router.get("", response_model=Logins)
async def logins(
    whose: Annotated[str, Depends(Whose())], parts: PartsOf, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> Any:
    """Your logins that have not ended, or for an admin anybody's, the latest first."""
    return await parts.bus.ask(ListLogins(name=whose, limit=limit))


@router.delete("/{login_id}", status_code=204)
async def end_login(login_id: LoginId, person: Annotated[PersonIdentity, Depends(Ends())], parts: PartsOf) -> Response:
    """End a login of yours, or for an admin anybody's: none of its tokens counts any more."""
    of = None if person.may("people") else person.name
    ended: EndedLogin = await parts.bus.ask(EndLogin(login_id=login_id, of=of, by=person.name))
    if ended.name is not None:
        await parts.logins.reach(person_key(ended.name), ended.revision)
    return Response(status_code=204)
