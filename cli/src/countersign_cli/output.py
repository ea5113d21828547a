"""What commands print: tables and texts for people, JSON for programs, errors on one line, exit codes.

Exit codes: 0 done; 1 refused, failed, or a check that did not hold; 2 wrong usage; 3 the system cannot be reached.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from countersign_contracts.errors import CountersignError

from .embedded.errors import EmbeddedError

REFUSED, USAGE, UNREACHABLE = 1, 2, 3

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


class Misused(Exception):
    """What was typed cannot be meant; the text says what is wrong and what is allowed."""


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
            if isinstance(each, dict) and "field" in each:
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


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], empty: str) -> None:
    """A table, or a line where there is nothing."""
    if not rows:
        console.print(f"[dim]{empty}[/]")
        return
    built = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        built.add_column(column, overflow="fold")
    for row in rows:
        built.add_row(*(cell(value) for value in row))
    console.print(built)


def cell(value: Any) -> str:
    """One table cell: states in their colour, nothing as a dash; what agents wrote is never read as markup."""
    if value is None or value == "":
        return "[dim]-[/]"
    text = escape(printable(str(value)))
    style = STATE_STYLE.get(str(value))
    return f"[{style}]{text}[/]" if style else text


def printable(text: str) -> str:
    """The text with control and direction characters shown as escapes, so that nothing hides or moves on a terminal."""
    return "".join(
        c if c == "\n" or (c.isprintable() and c not in _DIRECTIONS) else c.encode("unicode_escape").decode()
        for c in text
    )


_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")


def ago(text: str | None) -> str:
    """How long ago an RFC 3339 time was, for people; how long until it is, if it is to come."""
    if not text:
        return "never"
    seconds = (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
    away = abs(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if away >= size:
            span = f"{int(away // size)} {unit}"
            break
    else:
        span = f"{int(away)} s"
    return f"{span} ago" if seconds >= 0 else f"in {span}"
