"""What every path needs: who calls, and the parts of the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from countersign_chassis import Bus, Mirror
from countersign_contracts.catalogue import ToolRecord
from countersign_contracts.control import Stop
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import AgentRecord, PersonRecord
from countersign_contracts.logins import LoginsRecord
from countersign_contracts.model import now
from countersign_ledger import TrustBundle

from ..acceptance import Acceptance
from ..cancellation import Cancellation
from ..changes import Changes
from ..credentials import AgentIdentity, Credentials, Identity, PersonIdentity, require_agent, require_person
from ..dead_letters import DeadLetters
from ..following import Following
from ..following_agents import FollowingAgents
from ..ingress import Ingress
from ..settings import Settings
from ..store import Store
from ..telling import Telling
from ..waiters import Waiters


@dataclass(frozen=True, slots=True)
class Parts:
    """The gateway's parts, as wired in ``build()``."""

    settings: Settings
    bus: Bus
    store: Store
    acceptance: Acceptance
    cancellation: Cancellation
    waiters: Waiters
    credentials: Credentials
    changes: Changes
    dead_letters: DeadLetters
    following: Following
    following_agents: FollowingAgents
    telling: Telling
    ingress: Ingress
    agents: Mirror[AgentRecord]
    people: Mirror[PersonRecord]
    logins: Mirror[LoginsRecord]
    tools: Mirror[ToolRecord]
    stops: Mirror[Stop]
    trust: TrustBundle


def parts_of(request: Request) -> Parts:
    """The parts of this application."""
    parts: Parts = request.app.state.parts
    return parts


_scheme = HTTPBearer(auto_error=False, description="an agent's credential, or a person's token or access token")
Scheme = Annotated[object, Depends(_scheme)]


def identify(request: Request, _: Scheme) -> Identity:
    """Who calls."""
    return parts_of(request).credentials.identify(request.headers.get("authorization"), now())


Caller = Annotated[Identity, Depends(identify)]
PartsOf = Annotated[Parts, Depends(parts_of)]


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call an endpoint, as its dependency checks it: a person with a role that allows ``permission``, an agent
    for what ``agents`` says, or the ``public``. ``others``: the permission that it takes for what is not one's own.
    """

    permission: str | None = None
    others: str | None = None
    agents: str | None = None
    public: str | None = None


class Needs:
    """A dependency: a person with a role that allows ``permission``."""

    def __init__(self, permission: str) -> None:
        self.access = Access(permission=permission)
        self.permission = permission

    def __call__(self, caller: Caller) -> PersonIdentity:
        return require_person(caller, self.permission)


#: A person who may see what there is; one who may order agents about.
Reader = Annotated[PersonIdentity, Depends(Needs("read"))]
Operator = Annotated[PersonIdentity, Depends(Needs("fleet"))]


class Either:
    """A dependency: an agent, for what ``agents`` says, or a person with a role that allows ``permission``."""

    def __init__(self, permission: str, *, agents: str) -> None:
        self.access = Access(permission=permission, agents=agents)
        self.permission = permission

    def __call__(self, caller: Caller) -> Identity:
        return caller if isinstance(caller, AgentIdentity) else require_person(caller, self.permission)


class OnlyAgents:
    """A dependency: an agent, for what ``agents`` says, and no person."""

    def __init__(self, agents: str) -> None:
        self.access = Access(agents=agents)

    def __call__(self, caller: Caller) -> AgentIdentity:
        return require_agent(caller)


class Unchecked:
    """A dependency that only declares ``permission``: the endpoint checks it, where it must refuse by itself."""

    def __init__(self, permission: str) -> None:
        self.access = Access(permission=permission)
        self.permission = permission

    async def __call__(self) -> None:
        return None


class Public:
    """A dependency that lets everybody in: ``why`` says what is checked instead, or that there is nothing to hide."""

    def __init__(self, why: str) -> None:
        self.access = Access(public=why)

    async def __call__(self) -> None:
        return None


async def read_whole(request: Request, limit: int) -> bytes:
    """The raw body, refused beyond ``limit`` bytes before it is all read."""
    declared = request.headers.get("content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise CountersignError(f"the body has {declared} bytes; at most {limit} are taken", code="too_large")
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise CountersignError(f"the body is larger than {limit} bytes", code="too_large")
        chunks.append(chunk)
    return b"".join(chunks)


async def body_of(request: Request, limit: int) -> bytes:
    """The raw body of a request that sends JSON; ``limit`` as for :func:`read_whole`."""
    body = await read_whole(request, limit)
    content_type = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise CountersignError(f"send application/json, not {content_type}", code="unsupported_media_type")
    return body
