"""A text that tells people to run a command names one that there is."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from countersign_cli.main import app
from workspace import ROOT, members

#: But not the error "countersign is already running".
NAMED = re.compile(r"`{1,2}countersign(?! is )((?: [a-z-]+)+)")


def texts() -> list[Path]:
    """What may name commands: the code, and the pages for people."""
    code = [module for member in members() for module in member.modules()]
    return [*code, ROOT / "README.md", *sorted((ROOT / "docs" / "how-to").glob("*.md"))]


def missing(words: list[str]) -> str | None:
    """The first word that is no command where one is due; None if the command exists."""
    at: Any = typer.main.get_command(app)
    for word in words:
        if not hasattr(at, "commands"):
            return None  # from here on it is arguments
        if word not in at.commands:
            return word
        at = at.commands[word]
    return None


@pytest.mark.parametrize("text", texts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_is_named_exists(text: Path) -> None:
    named = NAMED.findall(text.read_text(encoding="utf-8"))
    assert [words.strip() for words in named if missing(words.split())] == []


def test_a_command_that_is_not_there_is_noticed() -> None:
    assert [missing(["up"]), missing(["stops", "set"]), missing(["boot"]), missing(["stops", "sett"])] == [
        None,
        None,
        "boot",
        "sett",
    ]
