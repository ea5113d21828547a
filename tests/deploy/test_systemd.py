"""The unit for a single host: systemd takes it, it is locked down, and it runs a command that exists."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from countersign_cli.main import app

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "countersign.service"
#: systemd's own measure, from 0 (locked down) to 10; what it calls OK begins at 2.
MOST_EXPOSED = 1.5

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit as it is checked where Countersign is not installed: with a program that is there."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/countersign/bin/countersign", "/bin/true"))
    return unit


@needs_systemd
def test_systemd_has_nothing_to_say_against_it(installed: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", installed], capture_output=True, text=True, check=False)
    about_it = [line for line in done.stderr.splitlines() if installed.name in line]
    assert done.returncode == 0 and about_it == []


@needs_systemd
def test_it_is_locked_down(installed: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", installed]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "offline" in done.stderr:
        pytest.skip("this systemd cannot judge a unit that is not loaded")
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None and float(found[1]) <= MOST_EXPOSED, done.stdout


def test_it_runs_a_command_that_there_is() -> None:
    [line] = [line for line in UNIT.read_text().splitlines() if line.startswith("ExecStart=")]
    program, command, *options = shlex.split(line.removeprefix("ExecStart="))
    assert program == "/opt/countersign/bin/countersign"
    told = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert told.exit_code == 0
    assert all(option in told.output for option in options if option.startswith("--"))


def test_its_data_lie_in_the_folder_that_systemd_gives_it() -> None:
    text = UNIT.read_text()
    assert "StateDirectory=countersign\n" in text and "--data-dir /var/lib/countersign/" in text
