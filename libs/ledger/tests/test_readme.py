from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from countersign_ledger import Finding, TrustBundle
from countersign_ledger.report import Kind

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_code_in_the_readme_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})


def test_the_readme_explains_every_kind_of_finding() -> None:
    table = README.split("| finding |")[1].split("\n\n")[0]
    assert set(re.findall(r"`([a-z-]+)`", table)) == set(get_args(Kind))
    assert Finding.__annotations__["kind"] == "Kind"


def test_the_trust_bundle_in_the_readme_is_one() -> None:
    (text,) = re.findall(r"```\n(\{\"version\".*?)```", README, re.DOTALL)
    assert list(TrustBundle.from_json(text).keys) == ["policy-56475aa75463"]
