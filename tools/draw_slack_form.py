"""Draws a form of Slack's (a modal view) as an SVG picture: for the documentation. See :mod:`draw_slack`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from draw_slack import LEFT, RIGHT, WIDTH, Picture, draw_block, framed, mrkdwn

_GREY = "#616061"


def draw_form(view: dict[str, Any], wrong: Mapping[str, str] | None = None) -> str:
    """The picture of a form; ``wrong``: what is said at its fields."""
    picture = Picture()
    picture.y += 16
    picture.text(LEFT, view["title"]["text"], size=18, style='font-weight="900"')
    picture.y += 12
    for block in view["blocks"]:
        if block["type"] == "input":
            _field(picture, block, (wrong or {}).get(block["block_id"]))
        else:
            draw_block(picture, block)
    _ends(picture, view["close"]["text"], view["submit"]["text"])
    return framed(picture)


def _field(picture: Picture, block: dict[str, Any], wrong: str | None) -> None:
    picture.y += 26
    optional = " (optional)" if block["optional"] else ""
    picture.text(LEFT, block["label"]["text"] + optional, style='font-weight="700"')
    picture.y += 8
    element = block["element"]
    match element["type"]:
        case "checkboxes" | "radio_buttons":
            for option in element["options"]:
                radius = 8 if element["type"] == "radio_buttons" else 3
                picture.box(LEFT, picture.y + 3, 15, 15, "#fff", "#888", radius)
                picture.y -= 3
                mrkdwn(picture, option["text"]["text"], LEFT + 24, WIDTH - RIGHT)
        case kind:
            high = 52 if element.get("multiline") else 32
            picture.box(LEFT, picture.y, WIDTH - RIGHT - LEFT, high, "#fff", "#e01e5a" if wrong else "#888")
            if stands := _stands(kind, element):
                picture.y += 21
                picture.text(LEFT + 10, stands)
                picture.y -= 21
            picture.y += high
    if wrong:
        mrkdwn(picture, f":warning: {wrong}", LEFT, WIDTH - RIGHT, size=12.5, fill="#e01e5a")
    mrkdwn(picture, block["hint"]["text"], LEFT, WIDTH - RIGHT, size=11.5, fill=_GREY)


def _stands(kind: str, element: dict[str, Any]) -> str:
    if kind == "datetimepicker":
        return f"{datetime.fromtimestamp(element['initial_date_time'], UTC):%Y-%m-%d    %H:%M}"
    return str(element.get("initial_value", ""))


def _ends(picture: Picture, close: str, submit: str) -> None:
    picture.y += 18
    x = float(WIDTH - RIGHT)
    for text, fill, ink in ((submit, "#007a5a", "#fff"), (close, "#fff", "#1d1c1d")):
        width = 28 + 7.6 * len(text)
        x -= width
        picture.box(x, picture.y, width, 32, fill, "#bbb")
        picture.y += 21
        picture.text(x + 14, text, size=13, fill=ink, style='font-weight="700"')
        picture.y -= 21
        x -= 10
    picture.y += 34
