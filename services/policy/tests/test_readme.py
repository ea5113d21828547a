"""The README's Cedar is Cedar, and valid in the world of the policy cases."""

from __future__ import annotations

import re
from pathlib import Path

from countersign_contracts.catalogue import Document
from countersign_policy.plan import plan_change

from .conftest import WORLD

README = Path(__file__).parents[1] / "README.md"


def test_the_readmes_policies_can_be_applied() -> None:
    blocks = re.findall(r"```cedar\n(.*?)```", README.read_text(), re.DOTALL)
    assert blocks
    documents = [Document(path=path.name, text=path.read_text()) for path in sorted(WORLD.iterdir())]
    documents += [Document(path=f"readme{n}.cedar", text=block) for n, block in enumerate(blocks)]
    assert plan_change(documents, (), {}).errors == ()
