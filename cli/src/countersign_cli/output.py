"""What commands print: tables and texts for people, JSON for programs, errors on one line, exit codes.

Exit codes: 0 done; 1 refused, failed, or a check that did not hold; 2 wrong usage; 3 the system cannot be reached.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from countersign_contracts.errors import CountersignError
from countersign_contracts.plain_text import printable

from .embedded.errors import EmbeddedError

REFUSED, USAGE, UNREACHABLE = 1, 2, 3

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


class Misused(Exception):
    """What was typed cannot be meant; the text says what is wrong and what is allowed."""


#: The longest word that a table keeps whole: a digest has 71 characters, and what agents write may have thousands.
_WHOLE = 80
#: Between two columns.
_GAP = 2

P = ParamSpec("P")
R = TypeVar("R")

STATE_STYLE = {
    "succeeded": "green",
    "approved": "green",
    "active": "green",
    "failed": "red",
    "denied": "red",
    "rejected": "red",
    "revoked": "red",
    "expired": "red",
    "unknown": "bold magenta",
    "held": "yellow",
    "pending": "yellow",
    "paused": "yellow",
}


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what people must know into one line on stderr and an exit code; never a stack trace."""
    try:
        yield
    except CountersignError as error:
        errors.print(f"[red]error:[/] {escape(error.detail)}")
        for each in error.extra.get("errors", []):
            said = isinstance(each, dict) and str(each.get("message", "")).lower() in error.detail.lower()
            if isinstance(each, dict) and "field" in each and not said:
                errors.print(f"  {escape(str(each['field']))}: {escape(str(each.get('message', '')))}")
        raise typer.Exit(UNREACHABLE if error.code == "unavailable" else REFUSED) from None
    except (EmbeddedError, Misused) as error:
        errors.print(f"[red]error:[/] {escape(str(error))}")
        raise typer.Exit(USAGE if isinstance(error, Misused) else REFUSED) from None


def command(function: Callable[P, R]) -> Callable[P, R]:
    """A command whose errors are one line."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with one_line_errors():
            return function(*args, **kwargs)

    return wrapped


def print_json(value: Any) -> None:
    """JSON for programs, on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def tell_of_more(page: Mapping[str, Any], command: str) -> None:
    """Beside a page of a list that goes on, the command that does, up to where; nothing where it is the last."""
    if page.get("next"):
        errors.print(f"there are more: countersign {command} {cell(page['next'])}")


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], empty: str) -> None:
    """Print :func:`laid_out`."""
    console.print(laid_out(columns, rows, empty))


def laid_out(columns: Sequence[str], rows: Sequence[Sequence[Any]], empty: str) -> Table | str:
    """A table, or a line where there is nothing.

    Words stay whole, so that an id can be copied: where the terminal is too narrow, columns of several words give way,
    and then lines become longer than it.
    """
    if not rows:
        return f"[dim]{empty}[/]"
    texts = [[column, *(printable(str(row[n] or "-")) for row in rows)] for n, column in enumerate(columns)]
    gaps = _GAP * (len(columns) - 1)
    widths = column_widths(texts, console.width - gaps)
    built = Table(box=None, pad_edge=False, header_style="bold", width=sum(widths) + gaps)
    for column, width in zip(columns, widths, strict=True):
        built.add_column(column, overflow="fold", width=width)
    for row in rows:
        built.add_row(*(cell(value) for value in row))
    return built


def column_widths(texts: Sequence[Sequence[str]], room: int) -> list[int]:
    """How wide each column is: the widest give way until all fit into ``room``, none to less than its longest word."""
    widths = [max(cell_len(line) for text in column for line in (text.splitlines() or [""])) for column in texts]
    least = [_longest_word(column) for column in texts]
    while sum(widths) > room:
        spare, widest = max((width, n) if width > least[n] else (0, n) for n, width in enumerate(widths))
        if not spare:
            break
        widths[widest] -= 1
    return widths


def _longest_word(texts: Sequence[str]) -> int:
    words = [cell_len(word) for text in texts for word in text.split()]
    return max((length for length in words if length <= _WHOLE), default=1)


def cell(value: Any) -> str:
    """One table cell: states in their colour, nothing as a dash; what agents wrote is never read as markup."""
    if value is None or value == "":
        return "[dim]-[/]"
    text = escape(printable(str(value)))
    style = STATE_STYLE.get(str(value))
    return f"[{style}]{text}[/]" if style else text


def ago(text: str | None, at: datetime | None = None) -> str:
    """How long ago an RFC 3339 time was, for people; how long until it is, if it is to come. ``at``: seen from then."""
    if not text:
        return "never"
    seconds = ((at or datetime.now(UTC)) - datetime.fromisoformat(text)).total_seconds()
    away = abs(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if away >= size:
            span = f"{int(away // size)} {unit}"
            break
    else:
        span = f"{int(away)} s"
    return f"{span} ago" if seconds >= 0 else f"in {span}"
