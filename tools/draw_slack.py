"""Draws a Slack message or form (its Block Kit JSON) as an SVG picture, about as Slack shows it: for the documentation.

Knows the blocks that the Slack service sends: header, section with text or fields, perhaps with a button beside it,
context, actions, divider; what a form has besides is in :mod:`draw_slack_form`. Shows what Slack
would show of escapes, code, bold text, dates and mentions, so that a picture tells what people see.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import Any

WIDTH, LEFT, RIGHT = 760, 64, 24
_LINE, _SIZE, _MONO = 20, 14, 12.5
_FONT = "Lato, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
_MONO_FONT = "Monaco, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_SIGNS = {
    "hourglass_flowing_sand": "⏳",
    "white_check_mark": "✅",
    "no_entry": "⛔",
    "alarm_clock": "⏰",
    "wastebasket": "🗑",
    "pencil2": "✏",
    "white_circle": "⚪",
    "large_yellow_circle": "🟡",
    "large_orange_circle": "🟠",
    "red_circle": "🔴",
    "ballot_box_with_check": "☑",
    "arrow_forward": "▶",
    "white_small_square": "▫",
    "heavy_check_mark": "✔",
    "warning": "⚠",
    "+1": "👍",
    "-1": "👎",
    "key": "🔑",
    "bell": "🔔",
    "rotating_light": "🚨",
    "repeat": "🔁",
    "link": "🔗",
    "octagonal_sign": "🛑",
}
_SPAN = re.compile(r"```(?P<block>.*?)```|`(?P<code>[^`\n]+)`|\*(?P<bold>[^*\n]+)\*|(?P<text>[^`*]+|[`*])", re.DOTALL)


@dataclass
class Picture:
    """Grows downwards."""

    parts: list[str] = field(default_factory=list)
    y: float = 16

    def text(self, x: float, text: str, *, style: str = "", size: float = _SIZE, fill: str = "#1d1c1d") -> None:
        """One run of text on the present line."""
        self.parts.append(
            f'<text x="{x:.1f}" y="{self.y:.1f}" font-size="{size}" fill="{fill}" xml:space="preserve"'
            f" {style}>{html.escape(text)}</text>"
        )

    def box(self, x: float, y: float, width: float, height: float, fill: str, stroke: str, radius: float = 4) -> None:
        """A box behind what is drawn next."""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius}" fill="{fill}"'
            f' stroke="{stroke}"/>'
        )


def readable(text: str) -> str:
    """What Slack shows for dates, mentions and signs; entities stay for the drawing of code."""
    text = re.sub(r"<!date\^\d+\^[^|>]*\|([^>]*)>", r"\1", text)
    text = re.sub(r"<@U0([A-Z0-9]+)>", lambda m: "@" + m[1].lower(), text)
    return re.sub(r":([a-z0-9_+-]+):", lambda m: _SIGNS.get(m[1], m[0]), text)


def draw(message: dict[str, Any], thread: list[str]) -> str:
    """The picture of a message and of what is said in its thread."""
    picture = Picture()
    _author(picture, LEFT)
    for block in message["blocks"]:
        draw_block(picture, block)
    if thread:
        picture.y += 10
        picture.y += 8
        picture.text(LEFT, f"{len(thread)} replies", size=12.5, fill="#1264a3", style='font-weight="700"')
        picture.y += 8
        for line in thread:
            top = picture.y
            picture.y += 16
            _author(picture, LEFT + 44, small=True)
            mrkdwn(picture, line, LEFT + 44, WIDTH - RIGHT)
            picture.box(LEFT + 3, top, 1, picture.y - top, "#ddd", "none", 0)
    return framed(picture)


def framed(picture: Picture) -> str:
    """The whole picture, as high as what was drawn."""
    height = picture.y + 14
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" role="img"'
        f' viewBox="0 0 {WIDTH} {height:.0f}" font-family="{_FONT}">'
    )
    paper = '<rect width="100%" height="100%" fill="#fff" stroke="#ddd"/>'
    return "\n".join([head, paper, *picture.parts, "</svg>\n"])


def _author(picture: Picture, x: float, *, small: bool = False) -> None:
    side = 24 if small else 36
    picture.box(x - side - 10, picture.y - 4, side, side, "#1f6f5c", "none", 6)
    picture.parts.append(
        f'<text x="{x - 10 - side / 2:.1f}" y="{picture.y + side / 2:.1f}" font-size="{side / 2}" fill="#fff"'
        ' text-anchor="middle" font-weight="700">✓</text>'
    )
    picture.y += 10
    picture.text(x, "Countersign", style='font-weight="700"')
    picture.box(x + 96, picture.y - 11, 30, 14, "#e8e8e8", "none", 3)
    picture.text(x + 101, "APP", size=9.5, fill="#616061")
    picture.y += 8


def draw_block(picture: Picture, block: dict[str, Any]) -> None:
    """Draw one block below what is there; those of forms alone are left to who draws forms."""
    match block["type"]:
        case "header":
            picture.y += 24
            picture.text(LEFT, html.unescape(block["text"]["text"]), size=18, style='font-weight="900"')
            picture.y += 4
        case "section" if "fields" in block:
            _fields(picture, [each["text"] for each in block["fields"]])
        case "section":
            top = picture.y = picture.y + 6
            beside = block.get("accessory")
            mrkdwn(picture, block["text"]["text"], LEFT, WIDTH - RIGHT - (190 if beside else 0))
            if beside is not None:
                low, picture.y = picture.y, top - 8
                _buttons(picture, [beside], WIDTH - RIGHT - _wide(beside))
                picture.y = max(low, picture.y)
        case "context":
            picture.y += 6
            mrkdwn(picture, block["elements"][0]["text"], LEFT, WIDTH - RIGHT, size=11.5, fill="#616061")
        case "actions":
            _buttons(picture, block["elements"])
        case "divider":
            picture.y += 8
            picture.box(LEFT, picture.y, WIDTH - RIGHT - LEFT, 1, "#ddd", "none", 0)
            picture.y += 4


def _fields(picture: Picture, fields: list[str]) -> None:
    column = (WIDTH - RIGHT - LEFT) / 2
    picture.y += 6
    for at in range(0, len(fields), 2):
        top = lowest = picture.y
        for place, text in enumerate(fields[at : at + 2]):
            picture.y = top
            mrkdwn(picture, text, LEFT + place * column, LEFT + (place + 1) * column - 12)
            lowest = max(lowest, picture.y)
        picture.y = lowest + 4


def _wide(button: dict[str, Any]) -> float:
    return 24 + 7.6 * len(button["text"]["text"])


def _buttons(picture: Picture, buttons: list[dict[str, Any]], x: float = LEFT) -> None:
    picture.y += 12
    for button in buttons:
        label, style = button["text"]["text"], button.get("style", "")
        fill, stroke, ink = {
            "primary": ("#007a5a", "#007a5a", "#fff"),
            "danger": ("#fff", "#e01e5a", "#e01e5a"),
        }.get(style, ("#fff", "#bbb", "#1d1c1d"))
        width = _wide(button)
        picture.box(x, picture.y, width, 28, fill, stroke)
        picture.y += 19
        picture.text(x + 12, label, size=13, fill=ink, style='font-weight="700"')
        picture.y -= 19
        x += width + 8
    picture.y += 32


def mrkdwn(
    picture: Picture, text: str, left: float, right: float, *, size: float = _SIZE, fill: str = "#1d1c1d"
) -> None:
    """Text with Slack's markup, in as many lines as it takes."""
    line_height = _LINE if size == _SIZE else 16
    x = left
    picture.y += line_height - 2
    for span in _SPAN.finditer(readable(text)):
        if span["block"] is not None:
            x = left
            _code_block(picture, html.unescape(span["block"]), left, right)
            continue
        code, bold = span["code"] is not None, span["bold"] is not None
        content = html.unescape(span["code"] or span["bold"] or span["text"])
        each = (size - 1.5) * 0.62 if code else size * (0.62 if bold else 0.53)
        for number, line in enumerate(content.split("\n")):
            if number:
                x, picture.y = left, picture.y + line_height
            for turn, part in enumerate(_wrapped(line, int((right - x) / each), int((right - left) / each))):
                if turn:
                    x, picture.y = left, picture.y + line_height
                _run(picture, x, part, each, size, fill, code=code, bold=bold)
                x += len(part) * each
    picture.y += 4


def _wrapped(text: str, first: int, room: int) -> list[str]:
    """The text in lines of at most ``room`` characters, the first of at most ``first``; broken at spaces if it can."""
    lines = []
    while len(text) > first:
        at = text.rfind(" ", 0, first + 1) + 1 or (0 if first < room else first)
        lines.append(text[:at])
        text, first = text[at:], room
    return [*lines, text]


def _run(picture: Picture, x: float, text: str, each: float, size: float, fill: str, *, code: bool, bold: bool) -> None:
    """Text of one kind on one line, as wide as it was reckoned, whatever font the reader has."""
    if not text.strip():
        return
    shown = text.strip()
    x += (len(text) - len(text.lstrip())) * each
    style = f'textLength="{len(shown) * each:.1f}" lengthAdjust="spacingAndGlyphs"'
    if code:
        picture.box(x - 2, picture.y - size + 1, len(shown) * each + 4, size + 4, "#f6f6f6", "#e2e2e2", 2)
        picture.text(x, shown, size=size - 1.5, fill="#c01343", style=f'{style} font-family="{_MONO_FONT}"')
    else:
        picture.text(x, shown, size=size, fill=fill, style=f'{style} font-weight="700"' if bold else style)


def _code_block(picture: Picture, text: str, left: float, right: float) -> None:
    width = int((right - left - 16) / (_MONO * 0.61))
    lines = [line[at : at + width] or " " for line in text.split("\n") for at in range(0, max(len(line), 1), width)]
    top = picture.y - _LINE + 8
    picture.box(left, top, right - left, len(lines) * 17 + 12, "#f8f8f8", "#ddd")
    picture.y = top + 18
    for line in lines:
        picture.text(left + 8, line, size=_MONO, style=f'font-family="{_MONO_FONT}"')
        picture.y += 17
    picture.y = top + len(lines) * 17 + 12
