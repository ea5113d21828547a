"""A command waits for the imports that it needs, and for no others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: What servers are made of, and what only some commands need. Each takes a tenth of a second or so.
SERVERS = {
    "aiohttp",
    "asyncpg",
    "cedarpy",
    "fastapi",
    "nats",
    "prometheus_client",
    "slack_bolt",
    "starlette",
    "structlog",
    "uvicorn",
    "countersign_chassis",
    *(f"countersign_{service}" for service in ("gateway", "policy", "approvals", "executor", "audit", "registry")),
}
CRYPTOGRAPHY = {"cryptography", "nacl", "jwt", "countersign_ledger"}
#: Typer itself takes pydantic to read arguments.
SETTINGS = {"pydantic_settings"}

_RUN = """
import sys
from countersign_cli.main import app
try:
    app(sys.argv[1:], prog_name="countersign")
except SystemExit:
    pass
print("loaded", *{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


def loaded(folder: Path, *arguments: str) -> set[str]:
    """The packages that are loaded when the command ends."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *arguments],
        capture_output=True,
        text=True,
        env={"COUNTERSIGN_DATA_DIR": str(folder), "PATH": ""},
        timeout=60,
        check=False,
    )
    return set(done.stderr.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["up", "--help"], ["demo", "--help"]])
def test_help_needs_neither_servers_nor_settings(tmp_path: Path, arguments: list[str]) -> None:
    found = loaded(tmp_path, *arguments)
    assert "typer" in found
    assert found & (SERVERS | CRYPTOGRAPHY | SETTINGS) == set()


@pytest.mark.parametrize("arguments", [["status"], ["stops", "list"], ["approvals", "list"], ["agents", "list"]])
def test_a_command_that_asks_a_gateway_needs_no_servers(tmp_path: Path, arguments: list[str]) -> None:
    found = loaded(tmp_path, *arguments)
    assert "pydantic_settings" in found
    assert found & (SERVERS | CRYPTOGRAPHY) == set()


def test_verifying_needs_the_ledger_and_no_servers(tmp_path: Path) -> None:
    (tmp_path / "trust.json").write_text("{}")
    found = loaded(tmp_path, "audit", "verify", str(tmp_path / "export.jsonl"))
    assert "countersign_ledger" in found and found & SERVERS == set()
