"""Slack's blocks and elements, as the messages and forms of this service are made of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Slack takes 3000 characters a text.
PIECE = 2900


def label(text: str) -> dict[str, Any]:
    """Text that is shown as it is."""
    return {"type": "plain_text", "text": text, "emoji": False}


def mrkdwn(text: str) -> dict[str, Any]:
    """Text with markup of ours; what others wrote in it went through :mod:`.words`."""
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def section(text: str, accessory: dict[str, Any] | None = None) -> dict[str, Any]:
    """A paragraph, perhaps with a button beside it."""
    return {"type": "section", "text": mrkdwn(text)} | ({"accessory": accessory} if accessory else {})


def context(text: str) -> dict[str, Any]:
    """A paragraph in small type."""
    return {"type": "context", "elements": [mrkdwn(text)]}


def sections(lines: Sequence[str]) -> list[dict[str, Any]]:
    """Lines put together in as few texts as hold them; no line is broken."""
    found: list[str] = []
    for line in lines:
        if found and len(found[-1]) + 1 + len(line) <= PIECE:
            found[-1] += "\n" + line
        else:
            found.append(line)
    return [section(piece) for piece in found]


def button(action_id: str, text: str, value: str, style: str | None = None) -> dict[str, Any]:
    """A button; ``value`` comes back with it (2000 characters at most)."""
    found = {"type": "button", "action_id": action_id, "text": label(text), "value": value}
    return found | ({"style": style} if style else {})


def option(text: str, value: str) -> dict[str, Any]:
    """One thing to choose (75 characters with markup, and 150 of ``value``, at most)."""
    return {"text": mrkdwn(text), "value": value}


def field(name: str, title: str, element: dict[str, Any], hint: str, *, optional: bool = False) -> dict[str, Any]:
    """A field of a form. What is given stands under ``name`` twice: Slack names block and element."""
    return {
        "type": "input",
        "block_id": name,
        "optional": optional,
        "label": label(title),
        "hint": label(hint),
        "element": {**element, "action_id": name},
    }


def comment(title: str, *, optional: bool) -> dict[str, Any]:
    """The field for the voter's words."""
    element = {"type": "plain_text_input", "multiline": True, "max_length": 2000}
    element |= {} if optional else {"min_length": 1}
    return field("comment", title, element, "The requester reads it, and it goes on record.", optional=optional)


def form(
    callback_id: str, title: str, submit: str, private: str, blocks: Sequence[dict[str, Any]], close: str = "Back"
) -> dict[str, Any]:
    """A modal; ``private`` comes back with it (3000 characters at most)."""
    return {
        "type": "modal",
        "callback_id": callback_id,
        "private_metadata": private,
        "title": label(title),
        "submit": label(submit),
        "close": label(close),
        "blocks": list(blocks),
    }
