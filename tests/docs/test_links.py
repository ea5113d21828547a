"""Every link between the repository's own pages leads somewhere, and every test that a page names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import ROOT

_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<to>[^)\s]+)\)")
_TEST = re.compile(r"`(test_\w{16,})`")
PAGES = sorted(
    page for page in ROOT.rglob("*.md") if not any(part.startswith(".") for part in page.relative_to(ROOT).parts)
)


def anchors(page: Path) -> set[str]:
    """The headings' anchors, as forges make them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for found in _LINK.finditer(text):
        to, _, anchor = found["to"].partition("#")
        if re.match(r"[a-z]+:", to):
            continue
        target = (page.parent / to).resolve() if to else page
        assert target.exists(), f"{page.relative_to(ROOT)}: {found['to']} is not there"
        assert target.is_relative_to(ROOT), f"{page.relative_to(ROOT)}: {found['to']} leads out of the repository"
        if anchor:
            assert anchor in anchors(target), f"{page.relative_to(ROOT)}: {target.name} has no heading #{anchor}"


def test_every_test_that_a_page_names_is_there() -> None:
    tests = "\n".join(file.read_text(encoding="utf-8") for file in ROOT.rglob("test_*.py") if ".venv" not in file.parts)
    for page in PAGES:
        if page.name == "CONTRIBUTING.md":
            continue  # shows how a name should read
        for name in _TEST.findall(page.read_text(encoding="utf-8")):
            assert f"def {name}(" in tests, f"{page.relative_to(ROOT)} names {name}, which is not there"


def test_a_promise_s_test_is_in_the_file_it_links_to() -> None:
    for found in _LINK.finditer((ROOT / "README.md").read_text(encoding="utf-8")):
        for name in _TEST.findall(found["text"]):
            assert f"def {name}(" in (ROOT / found["to"]).read_text(encoding="utf-8"), f"{found['to']} has no {name}"
