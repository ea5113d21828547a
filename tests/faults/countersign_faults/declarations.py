"""What the system under faults governs: nine tools, one profile, three agents; and who approves what."""

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
        Tool("trim", "POST", "/trim/", repeatable=False),
        Tool("restock", "POST", "/restock/", repeatable=False),
        Tool("pair", "POST", "/pair/", repeatable=False),
        Tool("ignored", "POST", "/ignored/", repeatable=False),
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
overrides:
  dismiss: {{approval: always}}
  trim: {{approval: always}}
  restock: {{approval: always}}
  pair: {{approval: always}}
  ignored: {{approval: always}}
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

#: People of this group decide in pairs on `pair`.
PAIR = "pair"
#: How often a standing approval of `restock` may be used.
STANDING_USES = 3

_RULES = f"""\
kind: approval_rule
name: trimmed
match: {{tools: [trim]}}
stages: [{{name: one, approvers: [anyone]}}]
changes: {{n: lower}}
---
kind: approval_rule
name: ahead
match: {{tools: [restock]}}
stages: [{{name: one, approvers: [anyone]}}]
standing: {{max_uses: {STANDING_USES}, max_s: 60}}
---
kind: approval_rule
name: in_pairs
match: {{tools: [pair]}}
stages: [{{name: two, approvers: ["group:{PAIR}"], quorum: 2}}]
---
kind: approval_rule
name: ignored
match: {{tools: [ignored]}}
stages: [{{name: one, approvers: [anyone]}}]
deadline_s: 1
"""


def rules(turn: int) -> list[dict[str, str]]:
    """Who approves what; each turn says the same in other words, so that applying it is a change."""
    spare = f"---\nkind: approval_rule\nname: spare\ndescription: turn {turn}\npriority: -1\n"
    spare += "stages: [{name: one, approvers: [anyone]}]\n"
    return [{"path": "rules.yaml", "text": _RULES + spare}]


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
    return [*({"path": path, "text": text} for path, text in texts.items()), *rules(0)]
