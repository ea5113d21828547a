"""Pictures of Slack's forms and lists for the pages: what the Slack service renders of examples, as SVG."""

from datetime import UTC, datetime, timedelta
from typing import Any

from countersign_contracts.actions import Action, Decision, Reason
from countersign_contracts.approval_commands import ApprovalView
from countersign_contracts.approval_rules import Stage, StandingLimits
from countersign_contracts.approvals import AskedBy, Standing
from countersign_contracts.canonical import action_digest
from countersign_slack.more_forms import allow_form, change_form
from countersign_slack.several_form import pending_blocks, several_form
from countersign_slack.standing_list import standing_blocks
from draw_slack import draw
from draw_slack_form import draw_form

_AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def _approval(n: int, order: str, cents: int, **more: Any) -> ApprovalView:
    args = {"order": order, "cents": cents, "lines": ["shoes", "laces"]}
    parts: dict[str, Any] = {"principal_chain": ("person:alice",), "env": "prod", "tool": "refund_order"}
    digest = action_digest(agent="refund-bot", session=None, tool_version=1, args=args, **parts)
    action = Action(
        request_id=f"01a1fc37-f63a-7c89-af68-4a0fe0c362f{n}",
        agent_id="refund-bot",
        tool_version=1,
        args=args,
        digest=digest,
        requested_at=_AT,
        reason="the parcel never came",
        **parts,
    )
    reason = Reason(code="approval_required", message="high risk needs approval", policy="profile:refunds")
    decision = Decision(
        outcome="hold", reasons=(reason,), policy_version="1", risk="high", effect="write", decided_at=_AT
    )
    asked_by = AskedBy(
        rule="refunds",
        version=1,
        stages=(Stage(name="shop", approvers=("group:shop",)),),
        changes={"cents": "lower", "lines": "subset"},
        standing=StandingLimits(max_uses=20, max_s=28_800),
    )
    given: dict[str, Any] = {"deadline": _AT + timedelta(hours=1), "asked_by": asked_by} | more
    return ApprovalView(
        approval_id=f"apr_01a1fc37f63a7c89af684a0fe0c362f{n}",
        state="pending",
        action=action,
        decision=decision,
        owner_team="shop",
        requested_at=_AT,
        resource=f"orders/{order}",
        preview=f"Pay {cents} cents back for order {order}",
        **given,
    )


def slack_pictures() -> dict[str, str]:
    """The text of every picture, by path below `docs/reference`."""
    several = [
        _approval(n, order, cents) for n, order, cents in ((1, "A300", 900), (2, "A301", 1200), (3, "A245", 800))
    ]
    standing = Standing(
        standing_id="std_01a1ffc8418a711fbfb2ba352c4626c1",
        approval_id=several[1].approval_id,
        agent_id="refund-bot",
        tool="refund_order",
        env="prod",
        resource="orders/A*",
        granted_by=("alice",),
        granted_at=_AT,
        until=_AT + timedelta(hours=8),
        max_uses=20,
        used=3,
    )
    listed = [*pending_blocks(several, False), {"type": "divider"}, *standing_blocks([standing], False, True)]
    wrong = {"change.cents": "cents may be lowered: to less than 1200 and at least 0"}
    return {
        "pictures/slack-changes.svg": draw_form(change_form(several[1], "{}") or {}, wrong),
        "pictures/slack-ahead.svg": draw_form(allow_form(several[1], "{}", _AT) or {}),
        "pictures/slack-lists.svg": draw({"blocks": listed}, []),
        "pictures/slack-several.svg": draw_form(several_form(several[:2], 0, "{}")),
    }
