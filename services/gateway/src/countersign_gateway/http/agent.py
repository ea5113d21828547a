"""One agent as a resource: put in whole, and deleted. What is read of it, and orders, are in :mod:`.fleet`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field

from countersign_contracts import fleet
from countersign_contracts.agent_commands import DeleteAgent, UpdateAgent
from countersign_contracts.commands import AgentView
from countersign_contracts.errors import CountersignError, Malformed
from countersign_contracts.ids import AgentId
from countersign_contracts.model import Frozen
from countersign_contracts.observation import OBSERVES_AT_MOST_S, OBSERVES_S, IssuedObserver, IssueObserver

from ..submission import Words
from .context import Operator, PartsOf
from .problems import RESPONSES

router = APIRouter(prefix="/api/v1/agents", responses=RESPONSES, tags=["agents"])

IfMatch = Annotated[
    str | None, Header(max_length=64, description='the ETag the agent was read with, e.g. `"7"`: refused if it changed')
]
_ETAG = re.compile(r'"([1-9][0-9]{0,8})"')


class AgentDescription(fleet.AgentDescription):
    """All that people say of an agent."""

    name: Words = Field(min_length=1, max_length=128)


def etag(view: AgentView) -> str:
    """The agent's revision, which grows with every change that others see, as an entity tag (RFC 9110, 8.8.3)."""
    return f'"{view.agent.revision}"'


def revision_of(if_match: str | None) -> int | None:
    """The revision that an ``If-Match`` names; None where any will do. Raises :class:`Malformed`."""
    if if_match is None or if_match.strip() == "*":
        return None
    found = _ETAG.fullmatch(if_match.strip())
    if found is None:
        raise Malformed(f'`If-Match: {if_match}` is no revision; send the ETag of the agent as you read it, e.g. "7"')
    return int(found[1])


class ObserverBody(Frozen):
    """For how long."""

    lifetime_s: int = Field(default=OBSERVES_S, ge=10, le=OBSERVES_AT_MOST_S)


@router.post("/observers", response_model=IssuedObserver, status_code=201, name="issue_observer")
async def issue_observer(body: ObserverBody, person: Operator, parts: PartsOf) -> Any:
    """A NATS user that can ask which agents run (`nats micro ls`) and nothing else; the secret is shown this once."""
    return await parts.bus.ask(IssueObserver(lifetime_s=body.lifetime_s, by=person.name))


@router.put("/{agent_id}", response_model=AgentView, name="update_agent")
async def update_agent(
    agent_id: AgentId,
    body: AgentDescription,
    person: Operator,
    parts: PartsOf,
    response: Response,
    if_match: IfMatch = None,
) -> Any:
    """Replace what people say of an agent. The same again changes nothing; an agent that there is not is no new one."""
    view: AgentView = await parts.bus.ask(
        UpdateAgent(agent_id=agent_id, **body.described(), revision=revision_of(if_match), by=person.name)
    )
    await parts.agents.reach(agent_id, view.agent.revision)
    response.headers["ETag"] = etag(view)
    return view


@router.delete("/{agent_id}", response_model=AgentView, name="delete_agent")
async def delete_agent(
    agent_id: AgentId,
    person: Operator,
    parts: PartsOf,
    reason: Annotated[Words, Query(min_length=1, description="why; it goes on record")] = "no reason given",
) -> Any:
    """Revoke an agent and list it no more; what it did stays on record, and its id stays its own.

    Refused while it has actions open: their ends would find nobody. Again is harmless.
    """
    open_ = {state: n for agent, state, n in await parts.store.open_counts() if agent == agent_id}
    if open_:
        listed = ", ".join(f"{n} {state}" for state, n in sorted(open_.items()))
        raise CountersignError(
            f"agent `{agent_id}` has actions open ({listed}); let them end or cancel them first"
            f" (`countersign actions list --agent {agent_id}`); to stop it at once, revoke it"
            f" (`countersign agents revoke {agent_id}`)",
            code="conflict",
        )
    view: AgentView = await parts.bus.ask(DeleteAgent(agent_id=agent_id, reason=reason, by=person.name))
    await parts.agents.reach(agent_id, view.agent.revision)
    return view
