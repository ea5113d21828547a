"""What declared agents would change: errors with file and line, or the new records.

Pure. That an agent's profile exists is not checked here: profiles are policy's, which checks these references when it
prepares the same change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from countersign_contracts.alert_rules import AlertRule
from countersign_contracts.canonical import canonical
from countersign_contracts.catalogue import AgentDeclaration, Document, FileError
from countersign_contracts.commands import ChangePlan
from countersign_contracts.control import DeclaredChange
from countersign_contracts.custom_roles import Role
from countersign_contracts.documents import Parsed, read_documents
from countersign_contracts.fleet import AgentDescription, AgentRecord

from . import role_declarations
from .lifecycle import RESERVED_HINT, RESERVED_IDS, Agent, Change, faults, new_record, redeclare, registered


@dataclass(frozen=True, slots=True)
class Declared:
    """The agents, roles and alert rules of a change's files, by id or name, and what is wrong in any of the files."""

    agents: tuple[tuple[Parsed, AgentDeclaration], ...]
    roles: Mapping[str, tuple[Parsed, Role]]
    errors: tuple[FileError, ...]
    rules: tuple[AlertRule, ...] = ()

    @property
    def agent_ids(self) -> list[str]:
        """Whose rows are needed to plan."""
        return [declaration.agent_id for _, declaration in self.agents]


def read(documents: Iterable[Document]) -> Declared:
    """Read the files. Errors are those of every kind of file: a change with any is applied nowhere."""
    parsed, errors = read_documents(documents)
    agents = [(item, item.model) for item in parsed if isinstance(item.model, AgentDeclaration)]
    rules = tuple(item.model for item in parsed if isinstance(item.model, AlertRule))
    by_id = tuple(sorted(agents, key=lambda pair: pair[1].agent_id))
    return Declared(by_id, role_declarations.read(parsed), tuple(errors), rules)


def plan(declared: Declared, present: Mapping[str, Agent]) -> ChangePlan:
    """What the declared agents would change of those present, or every error.

    The plan's base is a digest of the declared agents as they are now: registering or changing another agent does not
    make the plan stale, and neither do credentials.
    """
    errors = list(declared.errors)
    changes: list[DeclaredChange] = []
    for parsed, declaration in declared.agents:
        agent = present.get(declaration.agent_id)
        after = _described(declaration)
        before = None if agent is None else _described(agent.record)
        errors += [
            parsed.error(loc, what, allowed)
            for loc, what, allowed in faults(declaration.name, declaration.owner, declaration.environments)
        ]
        if agent is None and declaration.agent_id in RESERVED_IDS:
            errors.append(parsed.error(("agent_id",), f"the id `{declaration.agent_id}` is reserved", RESERVED_HINT))
        # an unchanged file of a revoked agent harms nobody, and must not block every later change of the folder
        if agent is not None and agent.record.status == "revoked" and before != after:
            errors.append(
                parsed.error(
                    ("agent_id",),
                    f"agent `{declaration.agent_id}` was revoked for good and cannot be changed any more",
                    "another agent_id, or its file as it was",
                )
            )
        name = declaration.agent_id
        if before is None:
            changes.append(DeclaredChange(kind="agent", name=name, action="create", after=after))
        elif before != after:
            changes.append(DeclaredChange(kind="agent", name=name, action="update", before=before, after=after))
        else:
            changes.append(DeclaredChange(kind="agent", name=name, action="unchanged"))
    return ChangePlan(errors=tuple(errors), changes=() if errors else tuple(changes), base=_base(declared, present))


def changes(
    declared: Declared, present: Mapping[str, Agent], by: str, at: datetime, change_id: str
) -> tuple[list[Change], list[Change]]:
    """The agents to create and those to change. Their events are named after the change, which the ledger so shows."""
    created: list[Change] = []
    changed: list[Change] = []
    for _, declaration in declared.agents:
        agent = present.get(declaration.agent_id)
        if agent is None:
            record = new_record(declaration.agent_id, declaration)
            created.append(registered(record, by, at, change_id))
        elif _described(agent.record) != _described(declaration):
            after = agent.record.model_copy(update=declaration.described() | {"revision": agent.record.revision + 1})
            changed.append(redeclare(agent.record, after, by, at, change_id))
    return created, changed


def _described(agent: AgentRecord | AgentDeclaration) -> dict[str, Any]:
    return agent.model_dump(mode="json", include=set(AgentDescription.model_fields), exclude_none=True)


def _base(declared: Declared, present: Mapping[str, Agent]) -> str:
    form = {
        agent_id: (
            {**_described(present[agent_id].record), "revoked": present[agent_id].record.status == "revoked"}
            if agent_id in present
            else None
        )
        for agent_id in declared.agent_ids
    }
    return "sha256:" + hashlib.sha256(canonical(form)).hexdigest()
