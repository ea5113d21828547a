"""Everything that an approver needs to decide, in words. What others wrote is shown on one line, nothing in it hidden.

What it says is made of the approval as the gateway answers it; nothing is asked, and nothing printed. ``at`` is the
present, where it is another than the clock's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from countersign_contracts.plain_text import printable
from countersign_contracts.sealed import shown

from ..output import ago

_NARROWINGS = {"lower": "to a lower number", "subset": "to some of its items", "remove": "left out"}


def flat(text: Any) -> str:
    """Others' text on one line: what follows cannot be taken for lines of ours."""
    return printable(str(text)).replace("\n", "\\n")


def as_json(value: Any) -> str:
    """A value exactly, as JSON; what does not print is escaped."""
    return printable(json.dumps(value, ensure_ascii=False))


def facts(found: dict[str, Any], at: datetime | None = None) -> list[tuple[str, str]]:
    """Name and value of everything but the arguments, the stages and the votes; what is empty is left out."""
    action, decision, rule = found["action"], found["decision"], found.get("asked_by") or {}
    oncall = found.get("owner_oncall")
    tool = f"{action['tool']} (version {action['tool_version']})"
    if found.get("tool_description"):
        tool += f": {flat(found['tool_description'])}"
    reasons = [r["message"] + (f" ({r['policy']})" if r.get("policy") else "") for r in decision["reasons"]]
    rows = [
        ("approval", found["approval_id"]),
        ("state", found["state"] + (", overdue" if found.get("overdue") else "")),
        ("tool", tool),
        ("what it will do", flat(found.get("preview") or "")),
        ("what it touches", flat(found.get("resource") or "")),
        ("environment", action["env"]),
        ("agent", f"{action['agent_id']} of team {flat(found['owner_team'])}"),
        ("on call for it", flat(oncall or "")),
        ("on behalf of", flat(" → ".join(action.get("principal_chain") or []))),
        ("session", flat(action.get("session_id") or "")),
        ("why the agent wants it", flat(action.get("reason") or "")),
        ("risk", decision.get("risk") or ""),
        ("why it needs approval", flat("; ".join(reasons))),
        ("changed from", found.get("amends") or ""),
        ("changed into", found.get("amended_as") or ""),
        ("rule", rule_words(rule)),
        ("own requests", "people may decide on what is their own, and it shows" if rule.get("allow_own") else ""),
        ("may be changed", changes_words(rule)),
        ("may be allowed ahead", standing_words(rule)),
        ("waits for", flat("; ".join(found.get("waits_for") or [])) if found["state"] == "pending" else ""),
        ("escalated to", ", ".join(found.get("escalated_to") or [])),
        ("deadline", deadline_words(found, at)),
        ("digest", action["digest"]),
    ]
    return [(name, value) for name, value in rows if value]


def is_declared(rule: dict[str, Any]) -> bool:
    """Whether somebody declared the rule; else one person with role approver decides."""
    return bool(rule.get("version")) or rule.get("rule", "default") != "default"


def rule_words(rule: dict[str, Any]) -> str:
    """Which rule asks, and what rejects; nothing for the default one."""
    if not is_declared(rule):
        return ""
    threshold = rule.get("deny_threshold", 1)
    rejects = "one rejection rejects" if threshold == 1 else f"{threshold} rejections reject"
    return f"{rule['rule']}, version {rule.get('version', 0)}: {rejects}"


def changes_words(rule: dict[str, Any]) -> str:
    """Which arguments an approver may narrow, and how."""
    return "; ".join(f"{name} {_NARROWINGS.get(how, how)}" for name, how in (rule.get("changes") or {}).items())


def standing_words(rule: dict[str, Any]) -> str:
    """How far alike actions may be allowed ahead."""
    limits = rule.get("standing")
    return f"at most {limits['max_uses']} times, for at most {span(limits['max_s'])}" if limits else ""


def span(seconds: float) -> str:
    """A time span for people."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def deadline_words(found: dict[str, Any], at: datetime | None = None) -> str:
    """When it ends and what happens then; how it ended, and when, if it has."""
    text = f"{deadline(found, at)} ({found.get('resolved_at') or found['deadline']})"
    if found["state"] != "pending" or (found.get("asked_by") or {}).get("at_deadline", "deny") == "deny":
        return text
    return text + "; after it, it waits until someone acts"


def deadline(found: dict[str, Any], at: datetime | None = None) -> str:
    """When it ends; how it ended, and when, if it has."""
    if found["state"] == "pending" or not found.get("resolved_at"):
        return ago(found["deadline"], at)
    said = {"approved": "approve", "rejected": "reject", "amended": "approve"}.get(found["state"])
    voters = [vote["voter"] for vote in found.get("votes", []) if vote["vote"] == said]
    return f"{found['state']}{' by ' if voters else ''}{', '.join(voters)} {ago(found['resolved_at'], at)}"


def arguments(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and exact value of every argument; of a sensitive one, what people may be shown."""
    args = found.get("shown_args") or shown(found["action"]["args"])
    return [(flat(name), as_json(value)) for name, value in args.items()]


def stages(found: dict[str, Any]) -> list[str]:
    """The stages in their order: how far each is, what it needs, from whom, and who may vote in it now."""
    return [f"{n}. {_stage(stage)}" for n, stage in enumerate(found.get("stages") or [], 1)]


def _stage(stage: dict[str, Any]) -> str:
    needs = f"{stage['quorum']} of {', '.join(stage['approvers'])}"
    if stage.get("assurance") == "strong":
        needs += ", each with a one-time code (CLI or HTTP)"
    parts = [f"{stage['name']}: {stage['state']}, {needs}"]
    if stage.get("approved_by"):
        parts.append(f"approved by {flat(', '.join(stage['approved_by']))}")
    if stage["state"] == "open" and stage.get("people"):
        parts.append(f"may vote now: {flat(', '.join(stage['people']))}")
    return "; ".join(parts)


def votes(found: dict[str, Any], at: datetime | None = None) -> Iterator[str]:
    """Each vote in words: who, what, where, how sure, on what terms, and why."""
    for vote in found.get("votes") or []:
        said = {"approve": "approved", "reject": "rejected"}[vote["vote"]]
        where = f" over {vote['channel']}"
        if vote.get("assurance") == "strong":
            where += " with a one-time code"
        if vote.get("stage"):
            where += f" in stage {vote['stage']}"
        text = f"{flat(vote['voter'])} {said} {ago(vote['voted_at'], at)}{where}"
        if vote.get("own"):
            text += f"; it is their own: {flat(vote['own'])}"
        if vote.get("changes"):
            text += f"; changed {', '.join(changed(vote['changes']))}"
        if offer := vote.get("standing"):
            text += f"; and allows {flat(offer['resource'])} ahead, {offer['max_uses']} times, until {offer['until']}"
        if vote.get("standing_id"):
            text += f"; by the standing approval {vote['standing_id']}"
        yield text + (f": {flat(vote['comment'])}" if vote.get("comment") else "")


def changed(changes: dict[str, Any]) -> list[str]:
    """Each changed argument with its new value."""
    return [f"{name} = {as_json(value)}" if value is not None else f"without {name}" for name, value in changes.items()]


def needs_code(found: dict[str, Any]) -> bool:
    """Whether a vote counts only with a one-time code: the stage that is open asks for it."""
    return any(s["state"] == "open" and s.get("assurance") == "strong" for s in found.get("stages") or [])


def outcome(found: dict[str, Any]) -> str:
    """What a vote made of an approval, after its name."""
    if found["state"] == "pending":
        waits = flat("; ".join(found.get("waits_for") or []))
        return "still pending" + (f": it waits for {waits}" if waits else "")
    if found["state"] == "amended" and found.get("amended_as"):
        return f"amended: the action became {found['amended_as']}, which is decided anew"
    return str(found["state"])
