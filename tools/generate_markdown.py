"""Writes Markdown: tables, code, and the prose of docstrings. Knows nothing of what the pages say."""

import re
from collections.abc import Iterable, Sequence

#: Stands at the top of every generated page.
NOTICE = "<!-- Written by `make docs` from the code. Change the code, not this page. -->"

_ROLE = re.compile(r":[a-z]+:`~?(?:[A-Za-z_]+\.)*([A-Za-z_]+)`")


def prose(docstring: str | None) -> str:
    """A docstring's text as Markdown: one paragraph a line, without reStructuredText's marks."""
    text = _ROLE.sub(r"`\1`", docstring or "").replace("``", "`")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text.strip()))


def words(name: str) -> str:
    """A class name as a sentence, for what has no docstring: `ListTools` is "List tools."."""
    first, *rest = re.findall(r"[A-Z][a-z0-9]*", name)
    return " ".join([first, *(word.lower() for word in rest)]) + "."


def code(text: str) -> str:
    """`text` set as code; nothing for an empty text."""
    return f"`{text}`" if text else ""


def codes(texts: Iterable[str]) -> str:
    """Several texts set as code, with commas between them."""
    return ", ".join(code(text) for text in texts)


def page(title: str, *parts: str) -> str:
    """A whole page: the notice, the title, the parts, an empty line between each."""
    return "\n\n".join([NOTICE, f"# {title}", *(part.strip("\n") for part in parts if part.strip())]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; text of several lines becomes one, and `|` stays text."""
    lines = [_row(head), "|" + "---|" * len(head), *(_row(row) for row in rows)]
    return "\n".join(lines)


def bullets(items: Iterable[str]) -> str:
    """A list."""
    return "\n".join(f"- {item}" for item in items)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
