"""Pictures of `countersign approvals watch` for the pages: its own screen, with examples on it, as SVG."""

import io
import re
from datetime import UTC, datetime
from typing import Any

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI

from countersign_cli.watching.board import Board
from countersign_cli.watching.screen import Screen

_AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
#: As rich draws it, without the fonts that it would fetch from elsewhere.
_FORMAT = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)

_RULE: dict[str, Any] = {
    "rule": "large-refunds",
    "version": 1,
    "deny_threshold": 1,
    "at_deadline": "deny",
    "allow_own": False,
    "changes": {"cents": "lower"},
    "standing": {"max_uses": 20, "max_s": 28_800},
}


def _approval(n: int, order: str, cents: int, risk: str, deadline: str, **more: Any) -> dict[str, Any]:
    return {
        "approval_id": f"apr_01a1fc37f63a7c89af684a0fe0c362f{n}",
        "state": "pending",
        "action": {
            "agent_id": "refund-bot",
            "tool": "refund_order",
            "tool_version": 1,
            "env": "prod",
            "args": {"order": order, "cents": cents},
            "reason": "the parcel never came",
            "principal_chain": ["person:alice"],
            "session_id": "run-7",
            "digest": "sha256:4aa909ba8924b28e8180bd953b6d4eacb1558081476e04dec28562302d123a1c",
        },
        "decision": {"risk": risk, "reasons": [{"message": f"{risk} risk needs approval"}]},
        "owner_team": "shop",
        "owner_oncall": "carol",
        "tool_description": "Pay an order back, in whole or in part.",
        "resource": f"orders/{order}",
        "preview": f"Pay {cents} cents back for order {order}",
        "deadline": deadline,
        "asked_by": {"rule": "default", "version": 0},
        "stages": [
            {"name": "decision", "approvers": ["anyone"], "people": ["bob", "carol"], "quorum": 1, "state": "open"}
        ],
        "waits_for": ["1 of anyone"],
        "votes": [],
        **more,
    }


_LARGE = _approval(
    1,
    "A300",
    90_000,
    "critical",
    "2026-11-21T10:12:00Z",
    asked_by=_RULE,
    stages=[
        {
            "name": "owner",
            "approvers": ["owner:team"],
            "quorum": 1,
            "assurance": "basic",
            "approved_by": ["dora"],
            "state": "done",
        },
        {
            "name": "finance",
            "approvers": ["group:finance"],
            "people": ["bob", "erin"],
            "quorum": 2,
            "assurance": "strong",
            "state": "open",
        },
    ],
    waits_for=["2 of group:finance"],
    escalated_to=["owner:oncall"],
    votes=[
        {
            "voter": "dora",
            "vote": "approve",
            "channel": "slack",
            "voted_at": "2026-11-21T09:21:00Z",
            "stage": "owner",
            "assurance": "basic",
            "comment": "the courier confirmed the loss",
        }
    ],
)
_OTHERS = [
    _approval(2, "A301", 1200, "high", "2026-11-21T10:28:00Z"),
    _approval(3, "A287", 4000, "high", "2026-11-21T09:58:00Z"),
    _approval(4, "A245", 800, "high", "2026-11-21T09:20:00Z", overdue=True),
]


def pictures() -> dict[str, str]:
    """The text of every picture, by path below `docs/reference`."""
    chosen = Board(at_time=_AT, live=True, link="live", items=[_LARGE, *_OTHERS], at=_LARGE["approval_id"])
    chosen.marked = {_OTHERS[1]["approval_id"]}
    asked = Board(at_time=_AT, live=True, link="live", items=chosen.items, at=chosen.at, shown=[_LARGE])
    asked.press("a")
    for key in "checked with the courier":
        asked.press(key)
    return {
        "pictures/approvals-watch.svg": _picture(chosen, "countersign approvals watch", "list", 12),
        "pictures/approvals-watch-vote.svg": _picture(asked, "countersign approvals watch", "vote", 38),
    }


def _picture(board: Board, title: str, name: str, rows: int) -> str:
    console = Console(
        width=120,
        height=rows,
        record=True,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
        highlight=False,
        _environ={},
    )
    console.print(Screen(board), height=rows)
    return console.export_svg(title=title, theme=MONOKAI, code_format=_FORMAT, unique_id=f"watch-{name}") + "\n"
