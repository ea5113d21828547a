"""What `countersign apply` says where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from countersign_cli.client import Client
from countersign_cli.main import app


class Refusing(Client):
    """The executor lacks a secret, at two places."""

    def __init__(self) -> None: ...

    def post(self, path: str, body: Any, **more: Any) -> Any:
        error = {
            "path": "a.yaml",
            "line": 1,
            "field": "http.headers.A",
            "message": "the executor has no secret `KEY_1`",
        }
        return {"errors": [error, error | {"line": 9}], "changes": []}


@pytest.fixture
def declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("COUNTERSIGN_URL", raising=False)
    monkeypatch.setenv("COUNTERSIGN_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "a.yaml").write_text("kind: tool")
    monkeypatch.setattr(Client, "find", lambda *_: Refusing())
    return tmp_path


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["apply", "-f", str(tmp_path / "nowhere")])
    assert done.exit_code == 1 and done.stderr == (
        f"error: no such file or folder: {tmp_path / 'nowhere'}; nothing was applied\n"
    )


def test_a_folder_without_declared_files_is_said(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["apply", "-f", str(tmp_path)])
    assert done.exit_code == 1 and "holds no .yaml, .yml, .cedar file" in done.stderr


def test_a_missing_secret_has_its_path_once(declared: Path) -> None:
    done = CliRunner().invoke(app, ["apply", "-f", str(declared)])
    assert done.exit_code == 1
    assert [line for line in done.stderr.splitlines() if "write the secret" in line] == [
        f"write the secret to a file of yours alone (chmod 600): {declared / 'data' / 'secrets' / 'KEY_1'}"
    ]


def test_where_another_systems_secrets_go_is_not_guessed(declared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERSIGN_URL", "https://elsewhere.example.com")
    done = CliRunner().invoke(app, ["apply", "-f", str(declared)])
    assert done.exit_code == 1 and "write the secret" not in done.stderr
