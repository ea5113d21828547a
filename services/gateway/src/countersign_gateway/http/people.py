"""People: who they are, their groups, and how they prove it. What the registry does."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from pydantic import Field

from countersign_contracts.approval_rules import GroupName, PersonName
from countersign_contracts.custom_roles import ListRoles, RemoveRole, Roles
from countersign_contracts.errors import Unavailable
from countersign_contracts.fleet import ChannelIdentity, RoleName, person_key
from countersign_contracts.model import Frozen
from countersign_contracts.people_commands import (
    AddPerson,
    ConfirmTotp,
    EnrolmentCode,
    IssuedToken,
    ListPeople,
    OneTimeCode,
    People,
    PersonView,
    RemoveChannel,
    RemovePerson,
    RemoveTotp,
    SetGroups,
    SetRoles,
    StartEnrolment,
    StartTotp,
    TotpSecret,
)

from ..credentials import PersonIdentity, require_person
from ..submission import Words
from .context import Access, Caller, Needs, Parts, PartsOf
from .problems import RESPONSES

router = APIRouter(prefix="/api/v1", responses=RESPONSES)

#: Every role may read: so every person, and no agent.
Person = Annotated[PersonIdentity, Depends(Needs("read"))]
Admin = Annotated[PersonIdentity, Depends(Needs("people"))]
SlackId = Annotated[str, Path(pattern=r"^[A-Z0-9]{1,32}$")]
Groups = Annotated[tuple[GroupName, ...], Field(max_length=64)]


class OneselfOr:
    """A dependency: oneself, or for others a person with a role that allows ``permission``."""

    def __init__(self, permission: str) -> None:
        self.access = Access(permission="read", others=permission)
        self.permission = permission

    def __call__(self, name: PersonName, caller: Caller) -> PersonIdentity:
        person = require_person(caller, "read")
        return person if person.name == name else require_person(caller, self.permission)


OneselfOrAdmin = Annotated[PersonIdentity, Depends(OneselfOr("people"))]


class Me(Frozen):
    """Who a token belongs to."""

    name: str
    roles: tuple[str, ...]
    permissions: tuple[str, ...]
    groups: tuple[str, ...] = ()
    channels: tuple[ChannelIdentity, ...] = ()
    totp: bool = Field(default=False, description="a one-time code generator is set up")


class PersonBody(Frozen):
    """A person and what they may do."""

    name: PersonName
    roles: tuple[RoleName, ...] = Field(min_length=1, max_length=32, description="built-in or declared ones")
    groups: Groups | None = Field(default=None, description="none: a known person keeps theirs")


class RolesBody(Frozen):
    """The roles a person has from now on."""

    roles: tuple[RoleName, ...] = Field(min_length=1, max_length=32)


class GroupsBody(Frozen):
    """The groups a person is in from now on."""

    groups: Groups


class TotpBody(Frozen):
    """A code of the generator that is replaced, where there is one."""

    code: OneTimeCode | None = None


class CodeBody(Frozen):
    """The first code of a new generator."""

    code: OneTimeCode


async def _seen(parts: Parts, view: PersonView) -> PersonView:
    """Answer only when this gateway itself acts on the change."""
    await parts.people.reach(person_key(view.name), view.revision)
    return view


@router.get("/me", response_model=Me, tags=["people"])
async def me(person: Person, parts: PartsOf) -> Me:
    """Who you are."""
    record = parts.people.get(person_key(person.name))
    if record is None:
        raise Unavailable("the gateway has not read who you are yet; try again")
    return Me(
        name=record.name,
        roles=record.roles,
        permissions=tuple(sorted(record.permissions)),
        groups=record.groups,
        channels=record.channels,
        totp=record.totp,
    )


@router.post("/me/channels/slack", response_model=EnrolmentCode, status_code=201, tags=["people"])
async def link_slack(person: Person, parts: PartsOf) -> Any:
    """A code that makes you known in Slack once you type it there, `/countersign link CODE`; an earlier one is void."""
    return await parts.bus.ask(StartEnrolment(name=person.name, channel="slack", login_id=person.login_id))


@router.post("/me/totp", response_model=TotpSecret, status_code=201, tags=["people"])
async def start_totp(body: TotpBody, person: Person, parts: PartsOf) -> Any:
    """A one-time code generator (RFC 6238) for you, shown this once; it counts once you confirmed it by a code."""
    return await parts.bus.ask(StartTotp(name=person.name, code=body.code, login_id=person.login_id))


@router.post("/me/totp/confirm", response_model=PersonView, tags=["people"])
async def confirm_totp(body: CodeBody, person: Person, parts: PartsOf) -> Any:
    """The first code of your new generator: from now on it counts."""
    return await _seen(parts, await parts.bus.ask(ConfirmTotp(name=person.name, code=body.code)))


@router.get("/people", response_model=People, tags=["people"])
async def people(
    _: Admin,
    parts: PartsOf,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    after: Annotated[str | None, Query(max_length=256)] = None,
) -> Any:
    """People by name, their roles and groups, and how they prove who they are."""
    return await parts.bus.ask(ListPeople(limit=limit, after=after))


@router.post("/people", response_model=IssuedToken, status_code=201, tags=["people"])
async def add_person(body: PersonBody, person: Admin, parts: PartsOf) -> Any:
    """Add a person, or renew a known one's token; it is shown this once."""
    issued: IssuedToken = await parts.bus.ask(
        AddPerson(name=body.name, roles=body.roles, groups=body.groups, by=person.name, login_id=person.login_id)
    )
    await parts.people.reach(person_key(issued.name), issued.revision)
    return issued


@router.delete("/people/{name}", status_code=204, tags=["people"])
async def remove_person(name: Words, person: Admin, parts: PartsOf) -> Response:
    """Remove a person; their token is void, and so is all else they had."""
    await parts.bus.ask(RemovePerson(name=name, by=person.name))
    await parts.people.fetch(person_key(name))
    return Response(status_code=204)


@router.get("/roles", response_model=Roles, tags=["people"])
async def roles(_: Person, parts: PartsOf) -> Any:
    """Roles, what each allows, and how many people have it; others than the built-in ones are declared."""
    return await parts.bus.ask(ListRoles())


@router.delete("/roles/{name}", status_code=204, tags=["people"])
async def remove_role(name: RoleName, person: Admin, parts: PartsOf) -> Response:
    """Remove a declared role that nobody has."""
    await parts.bus.ask(RemoveRole(name=name, by=person.name))
    return Response(status_code=204)


@router.put("/people/{name}/roles", response_model=PersonView, tags=["people"])
async def set_roles(name: PersonName, body: RolesBody, person: Admin, parts: PartsOf) -> Any:
    """The roles a person has from now on, and no others; it counts at once, and their token stays."""
    return await _seen(parts, await parts.bus.ask(SetRoles(name=name, roles=body.roles, by=person.name)))


@router.put("/people/{name}/groups", response_model=PersonView, tags=["people"])
async def set_groups(name: PersonName, body: GroupsBody, person: Admin, parts: PartsOf) -> Any:
    """The groups a person is in from now on, and no others."""
    return await _seen(parts, await parts.bus.ask(SetGroups(name=name, groups=body.groups, by=person.name)))


@router.delete("/people/{name}/channels/slack/{team}/{user}", response_model=PersonView, tags=["people"])
async def unlink_slack(name: PersonName, team: SlackId, user: SlackId, person: OneselfOrAdmin, parts: PartsOf) -> Any:
    """You, or for an admin anybody, are known by that Slack user no more."""
    view = await parts.bus.ask(RemoveChannel(name=name, channel="slack", identity=f"{team}/{user}", by=person.name))
    return await _seen(parts, view)


@router.delete("/people/{name}/totp", response_model=PersonView, tags=["people"])
async def remove_totp(
    name: PersonName,
    person: OneselfOrAdmin,
    parts: PartsOf,
    x_one_time_code: Annotated[OneTimeCode | None, Header(description="your own is removed with a code of it")] = None,
) -> Any:
    """A person has no one-time code generator any more; what asks for one-time codes they cannot do until a new one."""
    return await _seen(parts, await parts.bus.ask(RemoveTotp(name=name, by=person.name, code=x_one_time_code)))
