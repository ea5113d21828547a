"""The README's code runs, and its table of modules is whole."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent.parent
README = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_code_in_the_readme_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})


def test_the_readme_says_what_every_module_is_for() -> None:
    table = README.split("| module |")[1].split("\n\n")[0]
    named = set(re.findall(r"`([a-z_]+)`", table))
    there = {file.stem for file in FOLDER.glob("src/countersign_contracts/*.py")} - {"__init__"}
    assert named == there
