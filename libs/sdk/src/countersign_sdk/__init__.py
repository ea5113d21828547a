"""Countersign for agents: ask for an action, and learn what became of it.

An agent's tool code stays as it was apart from one call::

    async with Agent.nats("nats://127.0.0.1:4222", "support.creds") as agent:
        outcome = await agent.call("update_ticket", {"ticket_id": 7, "status": "closed"}, env="prod")

``outcome.state`` is ``succeeded``, ``failed``, ``unknown``, ``denied``, ``expired`` or ``cancelled`` once the action
has ended, and ``accepted``, ``held``, ``granted`` or ``executing`` while it has not. A denial is an outcome, not an
exception; :class:`CountersignError` is raised when the request itself could not be taken.
"""

from countersign_contracts.actions import FINAL_STATES, ActionResult
from countersign_contracts.agent_config import ConfigValues
from countersign_contracts.approvals import ApprovalProgress
from countersign_contracts.errors import CountersignError, Unavailable

from .agent import Agent, progress_of

#: What an agent is told of its action.
Outcome = ActionResult

__all__ = [
    "FINAL_STATES",
    "Agent",
    "ApprovalProgress",
    "ConfigValues",
    "CountersignError",
    "Outcome",
    "Unavailable",
    "progress_of",
]
