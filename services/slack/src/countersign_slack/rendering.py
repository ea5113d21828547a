"""The message about one approval, as Slack's blocks: everything a person needs to decide. Pure.

Slack takes 50 blocks a message and 3000 characters a text; a message stays far below what it takes in all. Names that
the contracts hold to a pattern stand as they are; every other text goes through :mod:`.words`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from countersign_contracts.approval_commands import ApprovalView, StageView
from countersign_contracts.approvals import Vote

from .blocks import PIECE, button, comment, context, form, mrkdwn, section, sections
from .offers import EXACT, is_whole, limits_ahead, narrowable, shown_args
from .words import code, cut_json, exact_json, pieces, when

APPROVE, REJECT = "countersign_approve", "countersign_reject"
#: Approve narrower arguments; approve, and allow alike actions ahead. Only where the rule allows it.
CHANGE, ALLOW = "countersign_change", "countersign_allow"
#: Slack refuses messages with more text than about 13,000 characters in all.
MESSAGE_LIMIT = 12_000

_TITLES = {
    "pending": "Approval needed",
    "approved": "Approved",
    "rejected": "Rejected",
    "expired": "Expired",
    "cancelled": "Cancelled",
    "amended": "Approved with changes",
}
_SIGNS = {
    "pending": ":hourglass_flowing_sand:",
    "approved": ":white_check_mark:",
    "rejected": ":no_entry:",
    "expired": ":alarm_clock:",
    "cancelled": ":wastebasket:",
    "amended": ":pencil2:",
}
_RISKS = {"low": ":white_circle:", "medium": ":large_yellow_circle:", "high": ":large_orange_circle:"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the action ended, in words of ours; ``well``: as it was meant to."""

    text: str
    well: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is shown. ``exact``: arguments up to so many characters as they are, of larger ones the beginning of
    each; the others: how many of a kind, and how many characters of each."""

    exact: int
    arguments: int
    argument: int
    text: int
    reasons: int
    reason: int
    votes: int
    comment: int
    names: int


FULL = Limits(exact=EXACT, arguments=15, argument=200, text=1000, reasons=8, reason=300, votes=12, comment=300, names=8)
#: What is shown of the worst that the contracts let through: it fits whatever the rest is.
LEAST = Limits(exact=1000, arguments=8, argument=60, text=200, reasons=3, reason=100, votes=4, comment=80, names=2)


def message(view: ApprovalView, outcome: Outcome | None = None) -> dict[str, Any]:
    """`text` and `blocks` of the message as it is to look now."""
    whole = _message(view, outcome, FULL)
    return whole if size(whole) <= MESSAGE_LIMIT else _message(view, outcome, LEAST)


def size(value: Any) -> int:
    """The characters of every text in blocks."""
    if isinstance(value, dict):
        return sum(
            len(each) if name == "text" and isinstance(each, str) else size(each) for name, each in value.items()
        )
    return sum(map(size, value)) if isinstance(value, list) else 0


def _message(view: ApprovalView, outcome: Outcome | None, limits: Limits) -> dict[str, Any]:
    action = view.action
    title = "Overdue: approval needed" if view.overdue and view.state == "pending" else _TITLES[view.state]
    head = f"{title}: {action.tool} in {action.env}"
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": head, "emoji": False}},
        *_what(view, limits),
        *_why(view, limits),
        *arguments(view, limits),
        *_progress(view, limits),
    ]
    if outcome is not None:
        blocks.append(section(f"{':heavy_check_mark:' if outcome.well else ':warning:'} {outcome.text}"))
    blocks += _decide(view) if view.state == "pending" else []
    blocks.append(
        context(f"`{view.approval_id}` · digest `{action.digest}` · `countersign approvals show {view.approval_id}`")
    )
    return {"text": f"{_SIGNS[view.state]} {head}, asked by {action.agent_id}", "blocks": blocks}


def arguments(view: ApprovalView, limits: Limits = FULL) -> list[dict[str, Any]]:
    """The exact arguments; or of each the beginning, and where they can be seen in full."""
    args = shown_args(view)
    if not args:
        return [section("*Arguments*  none")]
    units = exact_json(args)
    if is_whole(view, limits.exact):
        hidden = "; sensitive values are not shown" if view.shown_args is not None else ""
        shown = [section(f"```{piece}```") for piece in pieces(units, PIECE)]
        return [section(f"*Exact arguments* (JSON{hidden})"), *shown]
    first = list(args)[: limits.arguments]
    lines = [f"{code(name, 100)} `{cut_json(args[name], limits.argument)}`" for name in first]
    if len(args) > len(first):
        lines.append(f"… and {len(args) - len(first)} more")
    return [
        section(
            f":warning: *The arguments cannot be shown in full here* ({len(units):,} characters). Before you decide,"
            f" see them with `countersign approvals show {view.approval_id}`. They begin with:"
        ),
        *sections(lines),
    ]


def modal(view: ApprovalView, vote: str, private: str) -> dict[str, Any]:
    """The form for the reason; ``private`` comes back with it."""
    approving = vote == "approve"
    word = "Approve" if approving else "Reject"
    about = [subject(view), *arguments(view)]
    return form(
        "countersign_vote",
        word,
        word,
        private,
        [*about, comment("Comment" if approving else "Why not", optional=approving)],
    )


def subject(view: ApprovalView) -> dict[str, Any]:
    """What a form is about, and the digest that is voted on."""
    action = view.action
    return section(f"*{action.tool}* in *{action.env}*, asked by *{action.agent_id}*\nDigest `{action.digest}`")


def _what(view: ApprovalView, limits: Limits) -> list[dict[str, Any]]:
    action, risk = view.action, view.decision.risk or "unknown"
    owner = code(view.owner_team, 200) + (f", on call {code(view.owner_oncall, 300)}" if view.owner_oncall else "")
    fields = [
        f"*Tool*\n`{action.tool}` version {action.tool_version}",
        f"*Environment*\n`{action.env}`",
        f"*Agent*\n`{action.agent_id}`",
        f"*Owner*\n{owner}",
        f"*Risk*\n{_RISKS.get(risk, ':red_circle:')} {risk}"
        + (f" ({view.decision.effect})" if view.decision.effect else ""),
        f"*Deadline*\n{when(view.deadline)}",
    ]
    if action.principal_chain:
        chain = " → ".join(
            code(principal, 260) for principal in (*action.principal_chain[:5], f"agent:{action.agent_id}")
        )
        more = f" ({len(action.principal_chain)} in all)" if len(action.principal_chain) > 5 else ""
        fields.append(f"*On behalf of*\n{chain}{more}")
    if action.session_id:
        fields.append(f"*Session*\n{code(action.session_id, 160)}")
    found = [{"type": "section", "fields": [mrkdwn(field) for field in fields]}]
    for label, text in (
        ("The tool", view.tool_description),
        ("It touches", view.resource),
        ("It will", view.preview),
        ("The agent's reason", action.reason),
    ):
        if text:
            found.append(section(f"*{label}*\n{code(text, limits.text)}"))
    if view.amends:
        found.append(section(f"*Changed by an approver* from `{view.amends}`"))
    return found


def _why(view: ApprovalView, limits: Limits) -> list[dict[str, Any]]:
    reasons = [
        f"• {code(reason.message, limits.reason)}" + (f" ({code(reason.policy, 120)})" if reason.policy else "")
        for reason in view.decision.reasons[: limits.reasons]
    ]
    if len(view.decision.reasons) > limits.reasons:
        reasons.append(f"… and {len(view.decision.reasons) - limits.reasons} more")
    if view.decision.policies:
        named = ", ".join(code(policy, 120) for policy in view.decision.policies[: limits.reasons])
        reasons.append(f"Decided by {named}")
    return sections([f"*Why it needs approval* (rule `{view.asked_by.rule}`)", *reasons])


def _progress(view: ApprovalView, limits: Limits) -> list[dict[str, Any]]:
    lines = [_stage(stage, limits) for stage in view.stages]
    if view.state == "pending" and view.waits_for:
        lines.append(f"*Waits for* {', '.join(code(who, 200) for who in view.waits_for[: limits.names])}")
    if view.escalated_to:
        lines.append(f"*Escalated to* {', '.join(code(who, 200) for who in view.escalated_to[: limits.names])}")
    lines += [_vote(vote, limits) for vote in view.votes[: limits.votes]]
    if len(view.votes) > limits.votes:
        lines.append(f"… and {len(view.votes) - limits.votes} more votes")
    if view.state != "pending":
        at = f" {when(view.resolved_at)}" if view.resolved_at else ""
        lines.append(f"{_SIGNS[view.state]} *{_TITLES[view.state]}*{at}")
    if view.amended_as:
        lines.append(f"What runs instead is `{view.amended_as}`, decided anew")
    return sections(lines)


def _stage(stage: StageView, limits: Limits) -> str:
    sign = {"done": ":ballot_box_with_check:", "open": ":arrow_forward:", "waiting": ":white_small_square:"}[
        stage.state
    ]
    who = ", ".join(code(approver, 200) for approver in stage.approvers[: limits.names])
    sure = ", with a one-time code" if stage.assurance == "strong" else ""
    return f"{sign} Stage `{stage.name}`: {len(stage.approved_by)} of {stage.quorum} from {who}{sure}"


def _vote(vote: Vote, limits: Limits) -> str:
    sign = ":+1:" if vote.vote == "approve" else ":-1:"
    comment = f": {code(vote.comment, limits.comment)}" if vote.comment else ""
    own = f" (own: {code(vote.own, 120)})" if vote.own else ""
    return f"{sign} {code(vote.voter, 140)} by {vote.channel}{own}{comment}"


def _decide(view: ApprovalView) -> list[dict[str, Any]]:
    """The buttons; each carries the approval and the digest of what stands above it."""
    value = f"{view.approval_id} {view.action.digest}"
    strong = any(stage.state == "open" and stage.assurance == "strong" for stage in view.stages)
    reject = button(REJECT, "Reject…", value, "danger")
    if strong:
        return [
            section(
                ":key: Approving takes a fresh one-time code, which Slack is no place for:"
                f" `countersign approvals approve {view.approval_id}`"
            ),
            {"type": "actions", "block_id": "countersign_decide", "elements": [reject]},
        ]
    buttons = [button(APPROVE, "Approve…", value, "primary"), reject]
    if narrowable(view):
        buttons.append(button(CHANGE, "Approve with changes…", value))
    if limits_ahead(view) is not None:
        buttons.append(button(ALLOW, "Approve, and alike ahead…", value))
    return [{"type": "actions", "block_id": "countersign_decide", "elements": buttons}]


def pending_list(views: Sequence[ApprovalView], more: bool) -> str:
    """What waits for somebody, a line each."""
    if not views:
        return "Nothing waits for you."
    lines = [
        f"• `{view.action.tool}` in `{view.action.env}` by `{view.action.agent_id}`, risk {view.decision.risk or '?'},"
        f" until {when(view.deadline)}: `countersign approvals show {view.approval_id}`"
        for view in views
    ]
    return "\n".join(
        [f"{len(views)} wait for you:", *lines, *(["… and more: `countersign approvals list`"] if more else [])]
    )
