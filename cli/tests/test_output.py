"""What tables do where the terminal is narrow."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from countersign_cli import output

ID = "01a1fc3f-1c58-7168-9ee5-4e52a762283e"
DIGEST = "sha256:" + "5f" * 32


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of 80 columns."""
    text = io.StringIO()
    monkeypatch.setattr(output, "console", Console(file=text, width=80, highlight=False, soft_wrap=True))
    return text


def test_ids_are_whole_and_texts_give_way(printed: io.StringIO) -> None:
    row = (ID, "agent-support-001", "update_ticket", "the customer says that it is solved, and thanks us for it", ID)
    output.table(("REQUEST", "AGENT", "TOOL", "WHY", "SESSION"), [row], "none")
    lines = printed.getvalue().splitlines()
    assert lines[1].count(ID) == 2 and "agent-support-001" in lines[1] and "update_ticket" in lines[1]
    assert len(lines) > 2, "the text takes several lines"


def test_a_digest_beside_texts_is_whole_and_the_texts_keep_to_the_terminal(printed: io.StringIO) -> None:
    rows = [("why the agent wants it", "as it said " * 20), ("digest", DIGEST), ("on behalf of", None)]
    output.table(("", ""), rows, "none")
    assert any(line.rstrip().endswith(DIGEST) for line in printed.getvalue().splitlines())
    assert max(len(line.rstrip()) for line in printed.getvalue().splitlines()) <= 22 + 2 + len(DIGEST)


def test_a_table_that_fits_stays_as_it_was(printed: io.StringIO) -> None:
    output.table(("SERVICE", "", "WHY NOT"), [("gateway", "ready", ""), ("policy", "NOT READY", "no row")], "none")
    assert [line.rstrip() for line in printed.getvalue().splitlines()] == [
        "SERVICE             WHY NOT",
        "gateway  ready      -",
        "policy   NOT READY  no row",
    ]


def test_a_word_of_thousands_is_folded_and_moves_nothing_else(printed: io.StringIO) -> None:
    output.table(("REQUEST", "WHAT"), [(ID, "x" * 5000)], "none")
    assert max(len(line) for line in printed.getvalue().splitlines()) <= 120
    assert printed.getvalue().count("x") == 5000


def test_the_column_with_room_to_give_gives_it() -> None:
    texts = [[DIGEST + " and what it is"], ["so many words " * 10]]
    assert output.column_widths(texts, 100) == [71, 29]


def test_empty_cells_have_a_dash(printed: io.StringIO) -> None:
    output.table(("A", "", "C"), [("x", None, ""), ("y", "", 0)], "none")
    assert [line.split() for line in printed.getvalue().splitlines()] == [["A", "C"], ["x", "-", "-"], ["y", "-", "0"]]
