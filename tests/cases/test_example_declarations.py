"""What the example declares can be applied as it stands."""

from __future__ import annotations

from pathlib import Path

from countersign_contracts.catalogue import Document
from countersign_policy.plan import plan_change

DECLARED = Path(__file__).parents[2] / "examples" / "ticketing" / "countersign"


def test_the_examples_profiles_can_be_applied() -> None:
    files = sorted(path for path in DECLARED.rglob("*") if path.suffix in (".yaml", ".cedar"))
    documents = [Document(path=str(path.relative_to(DECLARED)), text=path.read_text()) for path in files]
    plan = plan_change(documents, (), {})
    assert plan.errors == ()
    assert {change.name for change in plan.changes} >= {"read_only", "write_nonprod", "write_prod_with_approval"}
