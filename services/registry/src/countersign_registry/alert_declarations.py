"""What declared alert rules would change. Pure.

That a webhook of a route exists is not checked here: webhooks are the approvals service's, which checks these
references when it prepares the same change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from countersign_contracts.alert_rules import AlertRule
from countersign_contracts.canonical import canonical
from countersign_contracts.control import DeclaredChange


def plan_rules(declared: Iterable[AlertRule], present: Mapping[str, AlertRule]) -> tuple[DeclaredChange, ...]:
    """What the rules would change of those present, in the order of their names."""
    return tuple(_change(rule, present.get(rule.name)) for rule in sorted(declared, key=lambda rule: rule.name))


def base_of(declared: Iterable[AlertRule], present: Mapping[str, AlertRule]) -> str:
    """A digest of the declared rules as they are now: changing another rule makes no plan stale."""
    form = {rule.name: shown(present[rule.name]) if rule.name in present else None for rule in declared}
    return "sha256:" + hashlib.sha256(canonical(form)).hexdigest()


def shown(rule: AlertRule) -> dict[str, Any]:
    """A rule as people compare it: what its file says."""
    return rule.model_dump(mode="json", exclude_none=True)


def _change(rule: AlertRule, before: AlertRule | None) -> DeclaredChange:
    if before is None:
        return DeclaredChange(kind="alert_rule", name=rule.name, action="create", after=shown(rule))
    if before == rule:
        return DeclaredChange(kind="alert_rule", name=rule.name, action="unchanged")
    return DeclaredChange(kind="alert_rule", name=rule.name, action="update", before=shown(before), after=shown(rule))
