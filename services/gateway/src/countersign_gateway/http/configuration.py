"""Agents' configuration: layers for a type, for an agent, and for now; its versions; and the agent's own view of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field

from countersign_contracts.agent_config import (
    AgentConfig,
    ConfigChange,
    ConfigHistory,
    Configuration,
    Configured,
    ConfigValues,
    ConfigVersions,
    GetConfig,
    ReportConfigured,
    RollBackConfig,
    SetConfig,
)
from countersign_contracts.fleet import AgentType
from countersign_contracts.ids import AgentId
from countersign_contracts.model import Frozen

from ..credentials import AgentIdentity
from ..submission import Words
from .context import OnlyAgents, Operator, Parts, PartsOf, Reader
from .problems import RESPONSES

router = APIRouter(prefix="/api/v1", responses=RESPONSES, tags=["configuration"])

Itself = Annotated[AgentIdentity, Depends(OnlyAgents("its own configuration"))]
OwnLayer = Literal["agent", "runtime"]
#: Versions are 32-bit numbers there.
Version = Annotated[int, Field(ge=1, le=2**31 - 1)]


class ConfigBody(Frozen):
    """A layer as it is to be. With ``base`` it is refused if somebody changed it since that version."""

    values: ConfigValues
    reason: Words = Field(min_length=1)
    base: int | None = Field(default=None, ge=0, le=2**31 - 1)
    wait_s: float = Field(default=2.0, ge=0, le=10, description="how long agents that run have to answer")


class TypeConfigBody(ConfigBody):
    """What every agent of a type is told, and what the type's `settings` must be like (JSON Schema)."""

    settings_schema: dict[str, Any] | None = None


class RollbackBody(Frozen):
    """The version to go back to, and why."""

    version: Version
    reason: Words = Field(min_length=1)
    layer: OwnLayer = "agent"


@router.get("/agents/{agent_id}/config", response_model=AgentConfig)
async def configuration(agent_id: AgentId, _: Reader, parts: PartsOf) -> Any:
    """What counts for an agent, layer by layer, and what the agent made of it."""
    return await parts.bus.ask(GetConfig(agent_id=agent_id))


@router.put("/agents/{agent_id}/config", response_model=ConfigChange)
async def set_configuration(
    agent_id: AgentId, body: ConfigBody, person: Operator, parts: PartsOf, layer: OwnLayer = "agent"
) -> Any:
    """Replace an agent's layer; one that runs is sent it, and its answer is told."""
    return await parts.bus.ask(SetConfig(scope=f"{layer}:{agent_id}", by=person.name, **dict(body)))


@router.get("/agents/{agent_id}/config/effective", response_model=Configuration)
async def effective_configuration(agent_id: AgentId, _: Reader, parts: PartsOf) -> Configuration:
    """What counts for an agent, all layers together."""
    return await _effective(agent_id, parts)


@router.get("/configuration", response_model=Configuration)
async def own_configuration(agent: Itself, parts: PartsOf) -> Configuration:
    """What counts for the agent that asks."""
    return await _effective(agent.agent_id, parts)


@router.post("/configuration/applied", status_code=204)
async def report_configuration(body: Configured, agent: Itself, parts: PartsOf) -> Response:
    """The agent says that it applied a configuration, or why not."""
    await parts.bus.ask(ReportConfigured(agent_id=agent.agent_id, said=body))
    return Response(status_code=204)


@router.get("/agents/{agent_id}/config/history", response_model=ConfigVersions)
async def configuration_history(
    agent_id: AgentId,
    _: Reader,
    parts: PartsOf,
    layer: OwnLayer = "agent",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Version | None = None,
) -> Any:
    """Versions of an agent's layer: who, when, why; the latest first."""
    return await parts.bus.ask(ConfigHistory(scope=f"{layer}:{agent_id}", limit=limit, before=before))


@router.post("/agents/{agent_id}/config/rollback", response_model=ConfigChange)
async def roll_back_configuration(agent_id: AgentId, body: RollbackBody, person: Operator, parts: PartsOf) -> Any:
    """Set an agent's layer to what an earlier version said."""
    return await parts.bus.ask(
        RollBackConfig(scope=f"{body.layer}:{agent_id}", version=body.version, by=person.name, reason=body.reason)
    )


@router.put("/agent-types/{agent_type}/config", response_model=ConfigChange)
async def set_type_configuration(agent_type: AgentType, body: TypeConfigBody, person: Operator, parts: PartsOf) -> Any:
    """Replace the layer of every agent of a type."""
    return await parts.bus.ask(SetConfig(scope=f"type:{agent_type}", by=person.name, **dict(body)))


@router.get("/agent-types/{agent_type}/config/history", response_model=ConfigVersions)
async def type_configuration_history(
    agent_type: AgentType,
    _: Reader,
    parts: PartsOf,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Version | None = None,
) -> Any:
    """Versions of a type's layer, the latest first."""
    return await parts.bus.ask(ConfigHistory(scope=f"type:{agent_type}", limit=limit, before=before))


@router.post("/agent-types/{agent_type}/config/rollback", response_model=ConfigChange)
async def roll_back_type_configuration(
    agent_type: AgentType, body: RollbackBody, person: Operator, parts: PartsOf
) -> Any:
    """Set a type's layer to what an earlier version said."""
    return await parts.bus.ask(
        RollBackConfig(scope=f"type:{agent_type}", version=body.version, by=person.name, reason=body.reason)
    )


async def _effective(agent_id: str, parts: Parts) -> Configuration:
    found: AgentConfig = await parts.bus.ask(GetConfig(agent_id=agent_id))
    return Configuration(digest=found.digest, values=found.effective)
