"""What is approved ahead, as a list with buttons, and the form to revoke it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from countersign_contracts.approvals import Standing

from .blocks import button, context, field, form, section
from .words import code, when

REVOKE, REVOKE_FORM = "countersign_revoke", "countersign_revoke_form"
NOTHING = "Nothing is approved ahead."


def standing_text(items: Sequence[Standing]) -> str:
    """A line each."""
    return "\n".join(map(_line, items)) or NOTHING


def standing_blocks(items: Sequence[Standing], more: bool, may_revoke: bool) -> list[dict[str, Any]]:
    """Each with its button, for who may."""
    blocks = [
        section(_line(item), button(REVOKE, "Revoke…", item.standing_id, "danger") if may_revoke else None)
        for item in items
    ]
    if more:
        blocks.append(context("… and more: `countersign approvals standing`"))
    return blocks


def _line(item: Standing) -> str:
    granted_by = ", ".join(code(who, 140) for who in item.granted_by[:8])
    return (
        f":repeat: *{item.tool}* on {code(item.resource, 600)} by *{item.agent_id}* in *{item.env}*,"
        f" until {when(item.until)}, used {item.used} of {item.max_uses} times\n"
        f"by {granted_by} with `{item.approval_id}` (`{item.standing_id}`)"
    )


def revoke_form(standing_id: str, private: str) -> dict[str, Any]:
    """The form for the reason."""
    words = {"type": "plain_text_input", "multiline": True, "min_length": 1, "max_length": 2000}
    return form(
        REVOKE_FORM,
        "Revoke",
        "Revoke",
        private,
        [
            section(f"Standing approval `{standing_id}`: nothing more is approved by it, from the answer on."),
            field("reason", "Why", words, "Everyone sees it, and it goes on record."),
        ],
    )
