"""The board as lines of a terminal: exactly as many as it has, whatever its size."""

from __future__ import annotations

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from countersign_contracts.plain_text import one_line

from ..approving import sheet
from ..output import STATE_STYLE, ago
from .board import Board

_RISK_STYLE = {"critical": "bold red", "high": "red", "medium": "yellow"}
#: Of a list's cell, and of a line that others wrote part of.
_CELL, _LINE = 60, 300


class Screen:
    """Renders a board into the size of the console it is printed on."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.height or console.height
        head, foot = _head(self._board), _foot(self._board)
        page = max(1, height - len(head) - len(foot))
        self._board.rows = page
        inner = _whole(self._board) if self._board.shown else _list(self._board, page)
        lines = console.render_lines(inner, options.update(width=width, height=None), pad=True)
        if self._board.shown:
            self._board.content = len(lines)
            self._board.scroll = max(0, min(self._board.scroll, len(lines) - page))
            lines = lines[self._board.scroll : self._board.scroll + page]
        lines = lines[:page] + [[Segment(" " * width)]] * (page - len(lines))
        fixed = options.update(width=width, height=1)
        around = [[console.render_lines(line, fixed, pad=True)[0] for line in lines_] for lines_ in (head, foot)]
        every = [*around[0], *lines, *around[1]][:height]
        for n, line in enumerate(every):
            yield from line
            if n < len(every) - 1:
                yield Segment.line()


def _line(*parts: str | tuple[str, str], end: str = "") -> Text:
    text = Text.assemble(*parts, no_wrap=True, overflow="ellipsis", end=end)
    return text


def _head(board: Board) -> list[Text]:
    count = f"{len(board.items)}{'+' if board.more else ''}"
    what = "that you may vote on" if board.mine else "pending"
    link = (f" ● {board.link}", "green") if board.live else (f" ○ {board.link}", "bold red")
    marked = (f"   {len(board.marked)} marked", "bold cyan") if board.marked else ""
    if board.shown:
        names = ", ".join(found["approval_id"] for found in board.shown[:2])
        more = f" and {len(board.shown) - 2} more" if len(board.shown) > 2 else ""
        return [_line(("approvals", "bold"), f"  {names}{more}", link)]
    return [_line(("approvals", "bold"), f"  {count} {what}", marked, link)]


def _foot(board: Board) -> list[Text]:
    below = f"{board.below} more lines below: ↓ PgDn End   " if board.shown and board.below else ""
    if asking := board.asking:
        verb = f"{asking.vote} exactly {'this' if len(board.shown) == 1 else f'these {len(board.shown)}'}"
        given = "; ".join([*asking.answers.get("changes", [])])
        about = asking.wrong or (f"so far: {given}" if given else "")
        style = "bold green" if asking.vote == "approve" else "bold red"
        return [
            _line((below, "yellow"), (one_line(about, _LINE), "red" if asking.wrong else "cyan")),
            _line((verb, style), f"   {asking.questions[0].label}"),
            _typed(asking.text),
            _line(("Enter go on   Esc leave without a vote", "dim")),
        ]
    notice = (one_line(board.notice, _LINE), "bold red" if board.wrong else "bold")
    if board.shown:
        extra = "   c with changes   s and allow ahead" if len(board.shown) == 1 else ""
        return [_line((below, "yellow"), notice), _line((f"a approve   r reject{extra}   Esc back", "dim"))]
    keys = "↑↓ choose   Enter details   a approve   r reject   Space mark   m "
    return [_line(notice), _line((f"{keys}{'all' if board.mine else 'only mine'}   q leave", "dim"))]


def _typed(text: str) -> Text:
    """The line being typed, its end always visible."""
    shown = one_line(text, 10_000)
    return _line(("> ", "bold"), shown if cell_len(shown) < 60 else f"…{shown[-58:]}", ("█", "blink"))


def _list(board: Board, page: int) -> Table | Text:
    if not board.items:
        return Text("\n  nothing waits for a decision" if board.live else "", style="dim")
    table = Table(box=None, expand=True, pad_edge=False, header_style="bold", show_edge=False)
    table.add_column("", width=3, no_wrap=True)
    for name, ratio in (("TOOL", 3), ("AGENT", 3)):
        table.add_column(name, ratio=ratio, no_wrap=True, overflow="ellipsis")
    for name, width in (("ENV", 7), ("RISK", 8)):
        table.add_column(name, width=width, no_wrap=True, overflow="ellipsis")
    for name, ratio in (("WHAT IT WILL DO", 6), ("WAITS FOR", 5)):
        table.add_column(name, ratio=ratio, no_wrap=True, overflow="ellipsis")
    table.add_column("DEADLINE", width=10, no_wrap=True, overflow="ellipsis")
    room = max(1, page - 1)
    first = max(0, min(board.index - room // 2, len(board.items) - room))
    for item in board.items[first : first + room]:
        here = item["approval_id"] == board.at
        mark = (">" if here else " ") + ("✓" if item["approval_id"] in board.marked else " ")
        risk = item["decision"].get("risk") or ""
        cells = (
            item["action"]["tool"],
            item["action"]["agent_id"],
            item["action"]["env"],
            Text(risk, "" if here else _RISK_STYLE.get(risk, "")),
            item.get("preview") or item.get("resource") or "",
            "; ".join(item.get("waits_for") or []),
            Text("overdue", "bold" if here else "bold red")
            if item.get("overdue")
            else ago(item["deadline"], board.at_time),
        )
        row = [cell if isinstance(cell, Text) else Text(one_line(cell, _CELL)) for cell in cells]
        table.add_row(Text(mark, "bold cyan"), *row, style="reverse" if here else None)
    return table


def _whole(board: Board) -> Group:
    """Everything about what is shown, one approval after the other."""
    parts: list[Table | Text] = []
    for n, found in enumerate(board.shown, 1):
        if len(board.shown) > 1:
            parts.append(Text(f"{'' if n == 1 else chr(10)}── {n} of {len(board.shown)} ──", style="bold cyan"))
        facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        facts.add_column(style="dim", no_wrap=True)
        facts.add_column(overflow="fold", ratio=1)
        for name, value in sheet.facts(found, board.at_time):
            style = {"risk": _RISK_STYLE.get(value, ""), "state": STATE_STYLE.get(value, "")}.get(name, "")
            facts.add_row(name, Text(value, style))
        parts += [facts, Text("\narguments, all of them", style="bold")]
        parts += [Text(f"  {name} = {value}", overflow="fold") for name, value in sheet.arguments(found)]
        if stages := sheet.stages(found):
            parts.append(Text("\nstages", style="bold"))
            parts += [Text(f"  {stage}", overflow="fold") for stage in stages]
        if votes := list(sheet.votes(found, board.at_time)):
            parts.append(Text("\nvotes", style="bold"))
            parts += [Text(f"  {vote}", overflow="fold") for vote in votes]
    return Group(*parts)
