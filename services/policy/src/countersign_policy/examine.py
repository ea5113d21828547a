"""The stages of a decision up to the guardrails, purely: the first that fails gives all its reasons.

Digest, stops, identity and status, environment, permission profile and policies (Cedar), argument schema; then what
the guardrails have to count, the risk, and whether a person must approve. What needs the database, the network or a
key is not here: see :mod:`.conclude` for the end of the decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from countersign_contracts.actions import Action, Effect, Reason, Risk
from countersign_contracts.catalogue import Profile
from countersign_contracts.control import Stop, scopes_of
from countersign_contracts.errors import Malformed
from countersign_contracts.fleet import AgentRecord

from .cedar_types import Inexact
from .engine import Engine, Question
from .explain import denial
from .guardrails import Count, closed, counts_of
from .policy_set import PolicySet
from .risk import approval_rule, is_destructive, risk_of
from .tools import CompiledTool

_DEFAULT_DEADLINE_S = 3600


@dataclass(frozen=True, slots=True)
class World:
    """What is known at the moment of deciding. ``stops`` are those in force, by scope."""

    agent: Callable[[str], AgentRecord | None]
    stops: Mapping[str, Iterable[Stop]]
    engine: Engine
    production: frozenset[str]


@dataclass(frozen=True, slots=True)
class Examined:
    """An action after the stages before the guardrails. With ``denied`` it is denied, for these reasons."""

    action: Action
    agent: AgentRecord | None = None
    tool: CompiledTool | None = None
    profile: Profile | None = None
    denied: tuple[Reason, ...] = ()
    policies: tuple[str, ...] = ()
    effect: Effect | None = None
    risk: Risk | None = None
    #: why a person must approve
    approval: str | None = None
    counts: tuple[Count, ...] = ()
    #: denials by guardrails that count nothing; they belong to the guardrails' stage
    blocked: tuple[Reason, ...] = ()

    @property
    def needs_facts(self) -> bool:
        """Whether the tool's facts must be looked up before the decision."""
        return not self.denied and self.tool is not None and bool(self.tool.tool.facts)

    @property
    def deadline_s(self) -> int:
        """Seconds until an approval expires."""
        return self.profile.approval_deadline_s if self.profile is not None else _DEFAULT_DEADLINE_S


def examine(action: Action, world: World, at: datetime) -> Examined:
    """Everything about ``action`` that can be said without counting."""
    agent = world.agent(action.agent_id)
    reasons = _digest(action) or _stopped(action, agent, world) or _identity(action, agent)
    if reasons or agent is None:
        return Examined(action, agent, denied=reasons)
    profile = world.engine.policy_set.profiles.get(agent.profile)
    tool = world.engine.tools.get(action.tool)
    if tool is None or tool.record.version != action.tool_version:
        question = Question(action, agent, "", (), "", None, False)
        return _denied_anyway(question, world, Examined(action, agent, None, profile), _tool(action, tool))
    override = profile.overrides.get(action.tool) if profile is not None else None
    risk = risk_of(tool.tool, action.args, action.env, override, world.production)
    question = Question(
        action=action,
        agent=agent,
        endpoint=tool.endpoint,
        fields=tool.fields(action.args),
        effect=tool.tool.effect,
        risk=risk,
        destructive=is_destructive(tool.tool, action.args),
    )
    so_far = Examined(action, agent, tool, profile, effect=tool.tool.effect, risk=risk)
    invalid = tuple(Reason(code="invalid_arguments", message=text) for text in tool.errors(action.args))
    if invalid:
        return _denied_anyway(question, world, so_far, invalid)
    asked = _permission(question, tool, world, so_far)
    if asked.denied:
        return asked
    counts, blocked = counts_of(profile, action) if profile is not None else ([], [])
    blocked += closed(profile, action, at) if profile is not None else []
    return replace(
        asked,
        approval=approval_rule(risk, tool.tool, action.env, override, world.production),
        counts=tuple(counts),
        blocked=tuple(blocked),
    )


def _digest(action: Action) -> tuple[Reason, ...]:
    try:
        matches = action.computed_digest() == action.digest
    except Malformed as error:
        return (Reason(code="digest", message=error.detail),)
    if matches:
        return ()
    message = "the digest is not the one of these arguments: the action was altered on its way"
    return (Reason(code="digest", message=message),)


def _stopped(action: Action, agent: AgentRecord | None, world: World) -> tuple[Reason, ...]:
    scopes = scopes_of(
        env=action.env,
        tool=action.tool,
        profile=agent.profile if agent is not None else None,
        agent=action.agent_id,
        session=action.session_id,
    )
    return tuple(
        Reason(
            code="stopped",
            message=f"stopped ({stop.scope}) by {stop.set_by} since {stop.set_at:%Y-%m-%d %H:%M} UTC: {stop.reason}",
            policy=stop.stop_id,
        )
        for scope in scopes
        for stop in world.stops.get(scope, ())
    )


def _identity(action: Action, agent: AgentRecord | None) -> tuple[Reason, ...]:
    if agent is None:
        message = f"agent `{action.agent_id}` is not registered"
        return (Reason(code="unknown_agent", message=message),)
    if agent.status != "active":
        message = f"agent `{agent.agent_id}` is {agent.status}; only active agents may act"
        return (Reason(code=f"agent_{agent.status}", message=message),)
    return ()


def _tool(action: Action, tool: CompiledTool | None) -> tuple[Reason, ...]:
    if tool is None:
        message = f"there is no tool `{action.tool}` in the catalogue"
        return (Reason(code="unknown_tool", message=message),)
    message = (
        f"`{action.tool}` is at version {tool.record.version}, the action was asked of version"
        f" {action.tool_version}: ask again"
    )
    return (Reason(code="tool_changed", message=message),)


def _denied_anyway(question: Question, world: World, so_far: Examined, otherwise: tuple[Reason, ...]) -> Examined:
    """Deny for ``otherwise``, unless an earlier stage fails already."""
    engine = world.engine
    earlier = denial(question, engine.bounds(question), engine.listed(question), engine.policy_set)
    if so_far.tool is None:
        # an unknown tool has neither endpoint nor fields, so only the environment can be judged
        earlier = tuple(reason for reason in earlier if reason.code == "environment")
    return _denied(so_far, earlier or otherwise, engine.policy_set)


def _permission(question: Question, tool: CompiledTool, world: World, so_far: Examined) -> Examined:
    engine = world.engine
    try:
        answer = engine.ask(question, tool)
    except Inexact as error:
        message = f"a policy compares `{error.name}`, and policies see no more than four digits after the point"
        return _denied(so_far, (Reason(code="policy_error", message=message),), engine.policy_set)
    if answer.allowed:
        return replace(so_far, policies=answer.policies)
    reasons = denial(question, answer, engine.permitted(question, tool), engine.policy_set)
    return _denied(so_far, reasons, engine.policy_set)


def _denied(so_far: Examined, reasons: tuple[Reason, ...], policy_set: PolicySet) -> Examined:
    # on a default deny no policy determines it; the reason only says where the tool would have to be listed
    named = {reason.policy for reason in reasons if reason.policy and reason.code != "tool_not_allowed"}
    return replace(so_far, denied=reasons, policies=tuple(sorted(named & policy_set.policies.keys())))
