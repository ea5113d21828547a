"""What people do to one agent besides registering it and ordering it about: change what it is, and delete it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from .command import Command, Rpc
from .commands import AgentView
from .event import Spec
from .fleet import AgentDescription, FleetEvent
from .ids import AgentId
from .model import Frozen


class UpdateAgent(AgentDescription, Command):
    """What people say of an agent, all of it, in place of what they said before; the same again changes nothing."""

    rpc: ClassVar[Rpc] = Rpc("registry", "update")
    reply: ClassVar[type[Frozen]] = AgentView
    agent_id: AgentId
    # nothing is left as it was, so nothing may be left out
    heartbeat_s: int = Field(ge=1, le=3600, description="seconds between two heartbeats")
    revision: int | None = Field(default=None, ge=1, description="refused as `stale` if the agent is at another")
    by: str


class DeleteAgent(Command):
    """Revoke an agent and list it no more. Its id is never given to another; again is harmless."""

    rpc: ClassVar[Rpc] = Rpc("registry", "delete", timeout_s=10)
    reply: ClassVar[type[Frozen]] = AgentView
    agent_id: AgentId
    reason: str = Field(min_length=1, max_length=2000)
    by: str


class AgentDeleted(FleetEvent):
    """An agent is listed no more. Whether it was revoked before or with this says the event of its status."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.deleted.{token}", ("registry",))
    reason: str
