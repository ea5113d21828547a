"""The published documents are what the code says, wherever and by whomever they are written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import generate
from generate_errors import ADVICE, errors
from generate_markdown import prose, table, words
from workspace import ROOT


@pytest.fixture(scope="module")
def documents() -> dict[str, str]:
    return generate.documents()


def test_they_are_current(documents: dict[str, str]) -> None:
    assert generate.drift(documents) == {}, f"run `{generate.COMMAND}`"


def test_they_do_not_depend_on_place_time_terminal_or_settings(tmp_path: Path) -> None:
    """Compared from a process with everything about it different."""
    elsewhere = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TZ": "Pacific/Kiritimati",
        "LC_ALL": "C",
        "COLUMNS": "30",
        "TERM": "dumb",
        "PYTHONHASHSEED": "4711",
        "PYTHONUTF8": "0",
        "COUNTERSIGN_HTTP_PORT": "9999",
        "COUNTERSIGN_URL": "https://elsewhere.example",
        "COUNTERSIGN_LOG_LEVEL": "debug",
    }
    command = [sys.executable, "-W", "error", ROOT / "tools" / "generate.py", "--check"]
    done = subprocess.run(command, cwd=tmp_path, env=elsewhere, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_they_name_no_place(documents: dict[str, str]) -> None:
    home = str(Path.home())
    for path, text in documents.items():
        assert str(ROOT) not in text and f"{home}/" not in text, path
        assert text.endswith("\n") and not text.endswith("\n\n"), path


def test_a_file_that_is_not_current_is_named_with_what_to_do(
    documents: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(generate, "documents", lambda: documents)
    assert generate.main([], tmp_path, tmp_path / "dashboards") == 0
    assert generate.main(["--check"], tmp_path, tmp_path / "dashboards") == 0
    capsys.readouterr()

    (tmp_path / "cli.md").write_text(documents["cli.md"] + "by hand\n", "utf-8")
    (tmp_path / "errors.md").unlink()
    (tmp_path / "schemas" / "countersign.gone.v1.json").write_text("{}")
    (tmp_path / "notes.md").write_text("of a person, and left alone")
    assert generate.main(["--check"], tmp_path, tmp_path / "dashboards") == 1
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "docs/reference/cli.md differs from the code",
        "docs/reference/errors.md is missing",
        "docs/reference/schemas/countersign.gone.v1.json is of nothing in the code",
    ]
    assert said.err == "3 generated documents are not current; run `make docs`\n"

    assert generate.main([], tmp_path, tmp_path / "dashboards") == 0
    assert generate.main(["--check"], tmp_path, tmp_path / "dashboards") == 0
    assert not (tmp_path / "schemas" / "countersign.gone.v1.json").exists()
    assert (tmp_path / "notes.md").exists()


def test_an_error_without_advice_stops_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ADVICE, "stale")
    with pytest.raises(LookupError, match="what to do about stale"):
        errors()


def test_a_docstring_becomes_prose() -> None:
    docstring = """Reads ``x``; raises
    :class:`~package.module.Malformed`.

    Then more.
    """
    assert prose(docstring) == "Reads `x`; raises `Malformed`.\n\nThen more."
    assert words("ListTools") == "List tools."


def test_a_cell_cannot_break_its_table() -> None:
    assert table(("a",), [("x | y\nz",)]) == "| a |\n|---|\n| x \\| y z |"
