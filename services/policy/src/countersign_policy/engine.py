"""Cedar asked: one question per action, answered from the policy set with the schema of the present tools.

The model (hand-written policies are validated against it)::

    entity Agent in [Profile, Team] { environments: Set<String>, profile: String, team: String };
    entity Tool { effect: String, endpoint: String, host: String, idempotent: Bool };
    action "<tool name>" appliesTo { principal: Agent, resource: Tool, context: {
        env: String, session?: String, principals: Set<String>, on_behalf_of?: String, endpoint: String,
        fields: Set<String>, effect: String, risk: String, destructive: Bool, args: <from the tool's JSON Schema> } };

Allowed is only ``Allow`` without errors: Cedar skips a ``forbid`` that errors, and would allow.

An answer depends on agent, tool and what policies look at in the context, and on nothing else. Where none looks at
``args``, an answer is kept under exactly these, and given again while neither policies nor catalogue change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cedarpy
import orjson

from countersign_contracts.actions import Action, Risk
from countersign_contracts.catalogue import ToolRecord
from countersign_contracts.fleet import AgentRecord

from .cedar_types import CedarType
from .policy_set import Part, PolicySet
from .tools import CompiledTool, compile_tool

_MOST_KEPT = 4096  # of what is kept for speed; then it is begun anew
_STRING = CedarType("String")
_STRINGS = CedarType("Set", of=_STRING)
_BOOL = CedarType("Boolean")


@dataclass(frozen=True, slots=True)
class Answer:
    """What Cedar said. ``policies``: the ids that determined it; ``errors``: why it may not be relied upon."""

    allowed: bool
    policies: tuple[str, ...]
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """An action as Cedar sees it, its arguments aside. ``endpoint`` and ``effect`` are empty for an unknown tool."""

    action: Action
    agent: AgentRecord
    endpoint: str
    fields: tuple[str, ...]
    effect: str
    risk: Risk | None
    destructive: bool

    def context(self) -> dict[str, Any]:
        """The context without ``args``."""
        chain = self.action.principal_chain
        context: dict[str, Any] = {
            "env": self.action.env,
            "principals": chain,
            "endpoint": self.endpoint,
            "fields": self.fields,
            "effect": self.effect,
            "risk": self.risk or "",
            "destructive": self.destructive,
        }
        if self.action.session_id is not None:
            context["session"] = self.action.session_id
        if chain:
            context["on_behalf_of"] = chain[0]
        return context


class Engine:
    """One policy set over one state of the catalogue; immutable but for its caches."""

    def __init__(self, policy_set: PolicySet, tools: Mapping[str, CompiledTool]) -> None:
        self.policy_set = policy_set
        self.tools = tools
        self._schema = cedarpy.Schema.from_json_str(json.dumps(schema_of(tools)))
        self._entities: dict[tuple[str, int, str], cedarpy.Entities] = {}
        self._answers: dict[tuple[object, ...], Answer] = {}
        use = policy_set.context_use
        self._looked_at = None if None in use or "args" in use else tuple(sorted(name for name in use if name))

    def ask(self, question: Question, tool: CompiledTool) -> Answer:
        """May it? With all policies and the arguments, which must be valid.

        Raises :class:`~.cedar_types.Inexact` for a number that Cedar cannot hold and a policy compares.
        """
        context = question.context()
        if self._looked_at is None:
            return self._ask_with_args(question, tool, context)
        agent = question.agent
        key = (agent.agent_id, agent.revision, question.action.tool, *(context.get(n) for n in self._looked_at))
        answer = self._answers.get(key)
        if answer is None:
            answer = self._ask_with_args(question, tool, context)
            if len(self._answers) >= _MOST_KEPT:
                self._answers.clear()
            self._answers[key] = answer
        return answer

    def permitted(self, question: Question, tool: CompiledTool) -> Answer:
        """Does anything permit it, bounds aside? To explain a denial."""
        context = question.context()
        context["args"] = tool.args_type.value(question.action.args, frozenset())
        return self._ask(question, context, "permits", self._schema)

    def bounds(self, question: Question) -> Answer:
        """What forbids it, where the arguments or the tool cannot be relied upon: they are not asked about."""
        return self._ask(question, question.context(), "bounds", None)

    def listed(self, question: Question) -> Answer | None:
        """Does its profile permit it? None where a hand-written policy may, had it seen the arguments."""
        if self.policy_set.permits_by_hand:
            return None
        return self._ask(question, question.context(), "listed", None)

    def _ask_with_args(self, question: Question, tool: CompiledTool, context: dict[str, Any]) -> Answer:
        context["args"] = tool.args_type.value(question.action.args, self.policy_set.mentioned)
        return self._ask(question, context, "all", self._schema)

    def _ask(self, question: Question, context: Mapping[str, Any], part: Part, schema: cedarpy.Schema | None) -> Answer:
        action = question.action
        try:
            request = {
                "principal": {"type": "Agent", "id": action.agent_id},
                "action": {"type": "Action", "id": action.tool},
                "resource": {"type": "Tool", "id": action.tool},
                "context": orjson.dumps(context).decode(),
            }
            entities = self._entities_of(question.agent, action.tool)
            policies = self.policy_set.handle(question.agent.profile, part)
            result = cedarpy.is_authorized(request, policies, entities, schema)
        except (ValueError, orjson.JSONEncodeError) as error:  # the latter: an integer beyond 64 bits, such as 1e300
            return Answer(False, (), (f"Cedar does not take the question: {error}",))
        errors = tuple(result.diagnostics.errors)
        return Answer(result.allowed and not errors, tuple(sorted(result.diagnostics.reasons)), errors)

    def _entities_of(self, agent: AgentRecord, tool: str) -> cedarpy.Entities:
        key = (agent.agent_id, agent.revision, tool)
        found = self._entities.get(key)
        if found is None:
            if len(self._entities) >= _MOST_KEPT:
                self._entities.clear()
            found = cedarpy.Entities.from_json_str(json.dumps(_entities(agent, tool, self.tools.get(tool))))
            self._entities[key] = found
        return found


def build_engine(policy_set: PolicySet, records: Sequence[ToolRecord], before: Engine | None = None) -> Engine:
    """An engine over the catalogue ``records``; tools that ``before`` has compiled are taken over."""
    known = before.tools if before is not None else {}
    tools: dict[str, CompiledTool] = {}
    for record in records:
        name = record.tool.name
        had = known.get(name)
        tools[name] = had if had is not None and had.record == record else compile_tool(record)
    return Engine(policy_set, tools)


def schema_of(tools: Mapping[str, CompiledTool]) -> dict[str, Any]:
    """The Cedar schema, in its JSON format."""
    agent = {"environments": _STRINGS, "profile": _STRING, "team": _STRING}
    tool = {"effect": _STRING, "endpoint": _STRING, "host": _STRING, "idempotent": _BOOL}
    context: Mapping[str, tuple[CedarType, bool]] = {
        "env": (_STRING, True),
        "session": (_STRING, False),
        "principals": (_STRINGS, True),
        "on_behalf_of": (_STRING, False),
        "endpoint": (_STRING, True),
        "fields": (_STRINGS, True),
        "effect": (_STRING, True),
        "risk": (_STRING, True),
        "destructive": (_BOOL, True),
    }
    return {
        "": {
            "entityTypes": {
                "Agent": {"memberOfTypes": ["Profile", "Team"], "shape": _required(agent)},
                "Profile": {},
                "Team": {},
                "Tool": {"shape": _required(tool)},
            },
            "actions": {
                name: {
                    "appliesTo": {
                        "principalTypes": ["Agent"],
                        "resourceTypes": ["Tool"],
                        "context": CedarType("Record", fields={**context, "args": (compiled.args_type, True)}).schema(),
                    }
                }
                for name, compiled in tools.items()
            },
        }
    }


def _required(fields: Mapping[str, CedarType]) -> dict[str, Any]:
    return CedarType("Record", fields={name: (each, True) for name, each in fields.items()}).schema()


def _entities(agent: AgentRecord, name: str, tool: CompiledTool | None) -> list[dict[str, Any]]:
    entities: list[dict[str, Any]] = [
        {
            "uid": {"type": "Agent", "id": agent.agent_id},
            "attrs": {
                "environments": list(agent.environments),
                "profile": agent.profile,
                "team": agent.owner.team,
            },
            "parents": [{"type": "Profile", "id": agent.profile}, {"type": "Team", "id": agent.owner.team}],
        }
    ]
    if tool is not None:
        attrs = {
            "effect": tool.tool.effect,
            "endpoint": tool.endpoint,
            "host": tool.host,
            "idempotent": tool.tool.idempotent,
        }
        entities.append({"uid": {"type": "Tool", "id": name}, "attrs": attrs, "parents": []})
    return entities
