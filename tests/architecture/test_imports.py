"""The import rules of pyproject.toml hold: which room may import which, and which may do I/O."""

import subprocess
import sys
from pathlib import Path

from workspace import ROOT


def test_the_import_rules_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout.partition("Contracts\n")[2] or done.stdout
