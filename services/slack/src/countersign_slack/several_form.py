"""What waits for somebody, and the form to decide on several alike in one step: the same tool, agent and environment.

Pure. Each is shown with its exact arguments and its digest; what would not fit among others is decided by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from countersign_contracts.approval_commands import ApprovalView

from .blocks import button, comment, context, field, form, option, section, sections
from .offers import is_whole
from .rendering import LEAST, MESSAGE_LIMIT, arguments, size
from .words import code, when

DECIDE, SEVERAL_FORM = "countersign_decide_several", "countersign_several_form"
#: Slack takes so many options.
MOST = 10


def alike(views: Sequence[ApprovalView]) -> list[list[ApprovalView]]:
    """Those of the same tool, agent and environment together, in the order of the first of each."""
    found: dict[tuple[str, str, str], list[ApprovalView]] = {}
    for view in views:
        found.setdefault((view.action.tool, view.action.agent_id, view.action.env), []).append(view)
    return list(found.values())


def pending_blocks(views: Sequence[ApprovalView], more: bool) -> list[dict[str, Any]]:
    """What waits, those that are alike with one button. Nothing waits: no blocks."""
    blocks: list[dict[str, Any]] = []
    for group in alike(views):
        action = group[0].action
        head = f"*{action.tool}* in *{action.env}* by *{action.agent_id}*"
        blocks += sections([head, *map(_line, group)])
        here = group[:MOST]
        word = "Decide…" if len(group) == 1 else f"Decide on {len(here)}…"
        blocks[-1]["accessory"] = button(DECIDE, word, " ".join(view.approval_id for view in here))
    if more:
        blocks.append(context("… and more: `countersign approvals list --mine`"))
    return blocks


def _line(view: ApprovalView) -> str:
    about = code(view.preview or view.resource or "no preview", 150)
    return f"• {about}, risk {view.decision.risk or 'unknown'}, until {when(view.deadline)} (`{view.approval_id}`)"


def several_form(views: Sequence[ApprovalView], left_out: int, private: str) -> dict[str, Any]:
    """The form for those that :func:`fitting` gave, in their order; what is chosen comes back by its place."""
    others = f"{left_out} more cannot be shown whole among these: decide at their own messages."
    action = views[0].action
    options = [option(f"*{n}*  {_short(view)}", str(n)) for n, view in enumerate(views, 1)]
    votes = [option("Approve", "approve"), option("Reject", "reject")]
    return form(
        SEVERAL_FORM,
        "Decide on several" if len(views) > 1 else "Decide",
        "Vote",
        private,
        [
            section(
                f"*{action.tool}* in *{action.env}*, asked by *{action.agent_id}*. Each that you choose gets a vote of"
                " its own, for its own digest."
            ),
            *(block for n, view in enumerate(views, 1) for block in _item(n, view)),
            *([context(others)] if left_out else []),
            field("which", "Which", {"type": "checkboxes", "options": options}, "Only these are voted on."),
            field("vote", "Your vote", {"type": "radio_buttons", "options": votes}, "The same on each."),
            comment("Comment, needed to reject", optional=True),
        ],
    )


def fitting(views: Sequence[ApprovalView]) -> list[ApprovalView]:
    """As many as one form shows whole, in their order: Slack takes so many options, and so much text."""
    found: list[ApprovalView] = []
    room = MESSAGE_LIMIT
    for view in views[:MOST]:
        needs = size(_item(len(found) + 1, view))
        if is_whole(view, LEAST.exact) and needs <= room:
            found.append(view)
            room -= needs
    return found


def _item(n: int, view: ApprovalView) -> list[dict[str, Any]]:
    action = view.action
    lines = [f"*{n}*  until {when(view.deadline)}, risk {view.decision.risk or 'unknown'}"]
    if action.principal_chain:
        chain = " → ".join(code(principal, 100) for principal in action.principal_chain[:3])
        lines.append(f"*On behalf of* {chain}{' …' if len(action.principal_chain) > 3 else ''}")
    for label, text in (
        ("It touches", view.resource),
        ("It will", view.preview),
        ("The agent's reason", action.reason),
    ):
        if text:
            lines.append(f"*{label}*  {code(text, LEAST.text)}")
    reasons = "; ".join(code(reason.message, LEAST.reason) for reason in view.decision.reasons[: LEAST.reasons])
    lines.append(f"*Why* {reasons} (rule `{view.asked_by.rule}`)")
    if any(stage.state == "open" and stage.assurance == "strong" for stage in view.stages):
        lines.append(f":key: Approving takes a one-time code: `countersign approvals approve {view.approval_id}`")
    lines.append(f"`{view.approval_id}` · digest `{action.digest}`")
    return [{"type": "divider"}, *sections(lines), *arguments(view, LEAST)]


def _short(view: ApprovalView) -> str:
    """What tells one from the others, within an option's 75 characters."""
    return code(view.resource or view.preview or view.approval_id, 36)
