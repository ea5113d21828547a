"""A declared change of the catalogue: what would become of each tool. Pure.

A tool's version grows only when its content changed, so applying the same files again changes nothing, and
grants in flight stay good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from countersign_contracts.canonical import canonical
from countersign_contracts.catalogue import Document, Tool, ToolRecord
from countersign_contracts.commands import ChangePlan
from countersign_contracts.control import DeclaredChange
from countersign_contracts.documents import Parsed, read_documents

from .check import catalogue_errors
from .secrets import Secrets

#: A plan is a reply and an event; both travel in one message.
MAX_PLAN_BYTES = 600_000
MAX_ERRORS = 500


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The tools by name, and how often the catalogue changed."""

    tools: Mapping[str, ToolRecord]
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """A plan, and the records to write for it."""

    plan: ChangePlan
    records: tuple[ToolRecord, ...] = ()


def plan_change(documents: Sequence[Document], catalogue: Catalogue, secrets: Secrets) -> Change:
    """What ``documents`` would change; with errors, nothing."""
    parsed, errors = read_documents(documents)
    declared: dict[str, tuple[Parsed, Tool]] = {
        each.name: (each, each.model) for each in parsed if isinstance(each.model, Tool)
    }
    present = {name: record.tool for name, record in catalogue.tools.items()}
    errors += catalogue_errors(declared, present, secrets)
    base = str(catalogue.revision)
    if errors:
        return Change(ChangePlan(errors=tuple(errors[:MAX_ERRORS]), base=base))
    changes: list[DeclaredChange] = []
    records: list[ToolRecord] = []
    for name, (_, tool) in declared.items():
        before = catalogue.tools.get(name)
        if before is not None and before.tool.to_bytes() == tool.to_bytes():
            changes.append(DeclaredChange(kind="tool", name=name, action="unchanged"))
            continue
        version = before.version + 1 if before else 1
        records.append(ToolRecord(tool=tool, version=version, revision=version))
        changes.append(
            DeclaredChange(
                kind="tool",
                name=name,
                action="update" if before else "create",
                before=content(before.tool) if before else None,
                after=content(tool),
            )
        )
    return Change(ChangePlan(changes=_bounded(changes), base=base), tuple(records))


def _bounded(changes: Sequence[DeclaredChange]) -> tuple[DeclaredChange, ...]:
    """The changes as one message can carry them: too large ones by the digests of their contents."""
    if sum(len(change.to_bytes()) for change in changes) <= MAX_PLAN_BYTES:
        return tuple(changes)
    return tuple(
        change.model_copy(update={"before": _digest(change.before), "after": _digest(change.after)})
        for change in changes
    )


def _digest(shown: dict[str, Any] | None) -> dict[str, Any] | None:
    if shown is None:
        return None
    return {"name": shown["name"], "sha256": hashlib.sha256(canonical(shown)).hexdigest()}


def content(tool: Tool) -> dict[str, Any]:
    """A tool as people compare it: what its file says."""
    return tool.model_dump(mode="json", by_alias=True, exclude_none=True)
