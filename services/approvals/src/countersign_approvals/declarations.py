"""What a change of approval rules and webhooks would do: every error with file and line, or what to write.

Pure, but for a look at which signing secrets there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from countersign_contracts.alert_rules import AlertRule
from countersign_contracts.approval_rules import ApprovalRule, Webhook
from countersign_contracts.catalogue import Document, Tool
from countersign_contracts.commands import ChangePlan
from countersign_contracts.control import DeclaredChange
from countersign_contracts.documents import Parsed, read_documents

from .rule_checks import marked_errors, rule_errors
from .webhooks_checks import route_errors, webhook_errors
from .webhooks_secrets import NO_SECRETS, WebhookSecrets

Kind = Literal["approval_rule", "webhook"]
Model: TypeAlias = ApprovalRule | Webhook
MAX_ERRORS = 500


@dataclass(frozen=True, slots=True)
class Declared:
    """One declared rule or webhook, as it is in force."""

    model: Model
    version: int

    @property
    def key(self) -> tuple[Kind, str]:
        """What it is known by."""
        return self.model.kind, self.model.name


@dataclass(frozen=True, slots=True)
class Change:
    """A plan, and what to write for it."""

    plan: ChangePlan
    items: tuple[Declared, ...] = ()


def plan_change(
    documents: Sequence[Document],
    present: Sequence[Declared],
    revision: int,
    tools: Mapping[str, Tool],
    secrets: WebhookSecrets = NO_SECRETS,
) -> Change:
    """What ``documents`` would change; with errors, nothing. Tools among the documents stand above ``tools``."""
    parsed, errors = read_documents(documents)
    base = str(revision)
    if errors:
        # a file that cannot be read may hold the tools that a rule names
        return Change(ChangePlan(errors=tuple(errors[:MAX_ERRORS]), base=base))
    known = {**tools, **{item.name: item.model for item in parsed if isinstance(item.model, Tool)}}
    declared = [(item, item.model) for item in parsed if isinstance(item.model, ApprovalRule | Webhook)]
    for item, model in declared:
        if isinstance(model, ApprovalRule):
            errors += rule_errors(item, model, known)
        else:
            errors += webhook_errors(item, model, secrets.fault, secrets.names())
    names = {(item.kind, item.name) for item, _ in declared}
    others = [d.model for d in present if isinstance(d.model, ApprovalRule) and d.key not in names]
    webhooks = {
        each.name: each
        for each in (*(d.model for d in present), *(m for _, m in declared))
        if isinstance(each, Webhook)
    }
    for item in parsed:
        if isinstance(item.model, AlertRule):
            errors += route_errors(item, item.model, webhooks)
    errors += [e for item in parsed if isinstance(item.model, Tool) for e in marked_errors(item, item.model, others)]
    if errors:
        return Change(ChangePlan(errors=tuple(errors[:MAX_ERRORS]), base=base))
    before = {each.key: each for each in present}
    outcome = [_change(item, model, before.get((model.kind, model.name))) for item, model in declared]
    written = tuple(each for each, _ in outcome if each is not None)
    return Change(ChangePlan(changes=tuple(change for _, change in outcome), base=base), written)


def _change(item: Parsed, model: Model, before: Declared | None) -> tuple[Declared | None, DeclaredChange]:
    if before is not None and before.model == model:
        return None, DeclaredChange(kind=model.kind, name=item.name, action="unchanged")
    change = DeclaredChange(
        kind=model.kind,
        name=item.name,
        action="create" if before is None else "update",
        before=None if before is None else shown(before.model),
        after=shown(model),
    )
    return Declared(model, 1 if before is None else before.version + 1), change


def shown(model: Model) -> dict[str, object]:
    """A rule or webhook as people compare it: what its file says."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)
