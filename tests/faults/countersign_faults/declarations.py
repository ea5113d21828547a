"""What the system under faults governs: five tools, one profile, three agents."""

from __future__ import annotations

from dataclasses import dataclass

#: Calls of `limited` that one session is allowed.
SESSION_LIMIT = 3

#: Seconds until an approval that nobody votes on expires.
APPROVAL_DEADLINE_S = 60

AGENTS = ("faults-1", "faults-2", "faults-3")


@dataclass(frozen=True)
class Tool:
    """What the validators need to know of a tool: its name, and whether its effect may happen twice."""

    name: str
    method: str
    path: str
    repeatable: bool
    limit: int | None = None


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("look", "GET", "/look/", repeatable=True),
        Tool("put_note", "PUT", "/notes/", repeatable=True),
        Tool("pay", "POST", "/pay/", repeatable=False),
        Tool("dismiss", "POST", "/dismiss/", repeatable=False),
        Tool("limited", "POST", "/limited/", repeatable=False, limit=SESSION_LIMIT),
    )
}

_TOOL = """\
kind: tool
name: {name}
effect: {effect}
idempotent: {idempotent}
resource: things/{{n}}
arguments:
  type: object
  additionalProperties: false
  required: [n]
  properties: {{n: {{type: integer, minimum: 0}}}}
http: {{method: {method}, url: "{url}{path}{{n}}", path: [n], allow_private: true, timeout_s: 5}}
"""

_PROFILE = f"""\
kind: profile
name: faults
environments: [dev, prod]
tools: [{", ".join(TOOLS)}]
guardrails:
  - {{kind: session_calls, name: limited per session, tools: [limited], limit: {SESSION_LIMIT}}}
overrides: {{dismiss: {{approval: always}}}}
approval_deadline_s: {APPROVAL_DEADLINE_S}
"""

_AGENT = """\
kind: agent
agent_id: {agent}
name: {agent}
owner: {{team: faults}}
profile: faults
environments: [dev, prod]
"""

_EFFECTS = {"look": "read"}


def documents(downstream: str) -> list[dict[str, str]]:
    """What `countersign apply` is given; ``downstream`` is the business system's URL."""
    tools = "---\n".join(
        _TOOL.format(
            name=tool.name,
            effect=_EFFECTS.get(tool.name, "write"),
            idempotent=str(tool.repeatable).lower(),
            method=tool.method,
            url=downstream,
            path=tool.path,
        )
        for tool in TOOLS.values()
    )
    agents = "---\n".join(_AGENT.format(agent=agent) for agent in AGENTS)
    texts = {"tools.yaml": tools, "profile.yaml": _PROFILE, "agents.yaml": agents}
    return [{"path": path, "text": text} for path, text in texts.items()]
