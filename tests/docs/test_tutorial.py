"""The pages are followed to the letter: their files, their commands, and what they say these print.

The tutorial comes first; the how-to pages and the README go on in the system that it leaves running.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT

TUTORIAL = ROOT / "docs" / "tutorial.md"
EXAMPLE = Path("examples/ticketing/countersign")
#: What declares more tools comes last: other pages show which tools there are.
HOW_TO = sorted((ROOT / "docs" / "how-to").glob("*.md"), key=lambda page: (page.stem == "declare-a-tool", page.stem))

#: A page is as many commands as it says, each a process; slow machines take their time.
pytestmark = pytest.mark.timeout(600)


def test_the_tutorial_works_as_it_says(reader: Any) -> None:
    reader.follow(TUTORIAL)


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_a_how_to_page_works_as_it_says_after_the_tutorial(page: Path, reader: Any) -> None:
    reader.follow(TUTORIAL)
    reader.follow(page)


def test_the_readme_s_first_governed_action_works_as_it_says(reader: Any) -> None:
    reader.follow(TUTORIAL)
    for file in sorted((ROOT / EXAMPLE).rglob("*.yaml")):
        reader.save(EXAMPLE / file.relative_to(ROOT / EXAMPLE), file.read_text(encoding="utf-8"))
    reader.follow(ROOT / "README.md")
