"""``/api/v1/agents/ws``: what agents say and what becomes of them, live over one WebSocket (RFC 6455).

The client says what it wants to hear, as often as it likes; each time that takes the place of what it said before. The
token is in the ``Authorization`` header and nowhere else: what is in a URL ends in logs.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import orjson
from fastapi import APIRouter, Depends
from pydantic import Field, model_validator
from starlette.datastructures import Headers
from starlette.websockets import WebSocket, WebSocketDisconnect

from countersign_contracts.errors import CountersignError, Refused
from countersign_contracts.ids import AgentId
from countersign_contracts.model import Frozen, now
from countersign_contracts.telemetry import LogLevel

from ..credentials import require_person
from ..followers import Ended, Lost
from ..following_agents import AgentFollower, Interest, Kind
from . import problems
from .context import Parts, Unchecked
from .telemetry import known, still_allowed

router = APIRouter(prefix="/api/v1")

#: Agents that one client follows at once.
MOST_AGENTS = 100
#: Why it is closed (RFC 6455, section 7.4.1): we go away; it is not allowed.
_GOING_AWAY, _NOT_ALLOWED = 1001, 1008

#: A refused WebSocket is answered before it is one.
_READER = Unchecked("read")


class Follow(Frozen):
    """What the client wants to hear from now on, in place of what it said before."""

    agents: tuple[AgentId, ...] | None = Field(default=None, max_length=MOST_AGENTS, description="none: every agent")
    kinds: tuple[Kind, ...] = Field(min_length=1)
    level: LogLevel | None = Field(default=None, description="of logs: this level and above")
    text: str | None = Field(default=None, min_length=1, max_length=256, description="in logs, in any letter case")

    @model_validator(mode="after")
    def _named(self) -> Follow:
        if self.agents is None and {"logs", "metrics"} & set(self.kinds):
            raise ValueError("name the `agents` whose logs or metrics you want; only phase and status are of all")
        return self


@router.websocket("/agents/ws", name="follow_agents", dependencies=[Depends(_READER)])
async def follow_agents(socket: WebSocket) -> None:
    """Serve one client until it leaves, its token is void, or this gateway stops."""
    parts: Parts = socket.app.state.parts
    authorization = socket.headers.get("authorization")
    try:
        own_origin(socket.headers)
        require_person(parts.credentials.identify(authorization, now()), _READER.permission)
        follower = parts.following_agents.follow("json")
    except CountersignError as error:
        await socket.send_denial_response(problems.answer(error))
        return
    try:
        with suppress(WebSocketDisconnect):
            await socket.accept()
            reading = asyncio.create_task(_read(socket, parts, follower))
            try:
                await _tell(socket, parts, follower, authorization)
            finally:
                reading.cancel()
    finally:
        parts.following_agents.leave(follower)


def own_origin(headers: Headers) -> None:
    """Raises :class:`Refused` for a page of another site; who is no browser sends no ``Origin``."""
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        raise Refused(f"a page of {origin[:200]} may not follow agents here; only this gateway's own may")


async def _tell(socket: WebSocket, parts: Parts, follower: AgentFollower, authorization: str | None) -> None:
    may_go_on = still_allowed(parts, authorization)
    async for said in follower.news(parts.settings.events_keep_alive_s, may_go_on):
        match said:
            case None:
                pass  # the server pings by itself
            case Lost():
                await socket.send_text(orjson.dumps(said.body()).decode())
            case Ended():
                await socket.send_text(orjson.dumps(said.body()).decode())
                await socket.close(_NOT_ALLOWED if said.refused else _GOING_AWAY)
            case _:
                await socket.send_text(said.decode())


async def _read(socket: WebSocket, parts: Parts, follower: AgentFollower) -> None:
    """Heed what the client says; when it is gone, so is its follower."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            follower.end()
            return
        if message["type"] != "websocket.receive":
            continue
        try:
            said = await _turn(parts, follower, message.get("text") or message.get("bytes") or b"")
        except CountersignError as error:
            said = {"kind": "problem", "problem": error.problem()}
        follower.tell(orjson.dumps(said))


async def _turn(parts: Parts, follower: AgentFollower, raw: str | bytes) -> dict[str, Any]:
    follow = Follow.from_bytes(raw.encode() if isinstance(raw, str) else raw)
    known(parts, *(follow.agents or ()))
    agents = None if follow.agents is None else frozenset(follow.agents)
    await parts.following_agents.turn_to(follower, Interest(agents, frozenset(follow.kinds), follow.level, follow.text))
    return {"kind": "following", "follow": follow.model_dump(mode="json", exclude_none=True)}
