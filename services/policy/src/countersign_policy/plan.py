"""What a change of profiles and policies would do, purely: every error in the files, else what changes and into what.

Tools and agents among the documents are there for references; their owners validate them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import cedarpy

from countersign_contracts.catalogue import AgentDeclaration, Document, FileError, Profile, Tool, ToolRecord
from countersign_contracts.control import DeclaredChange
from countersign_contracts.documents import Parsed, PolicyFile, read_documents
from countersign_contracts.errors import CountersignError

from .cedar_text import WrittenPolicy, parse, unusable, validate
from .declarations import Declared
from .engine import schema_of
from .policy_set import PolicySet, compile_set
from .profile_checks import check_profile
from .sensitive_checks import check_marks, check_policy
from .tools import compile_tool


@dataclass(frozen=True, slots=True)
class Plan:
    """The outcome: errors, or the changes, what to store, and the set that results."""

    errors: tuple[FileError, ...]
    changes: tuple[DeclaredChange, ...]
    items: tuple[Declared, ...]
    policy_set: PolicySet | None


def compile_declared(items: Iterable[Declared]) -> PolicySet:
    """The set that stored declarations make; they were validated when they were applied.

    Raises :class:`CountersignError` for one that cannot be read (any more).
    """
    profiles: list[Profile] = []
    written: list[WrittenPolicy] = []
    for item in items:
        if item.kind == "profile":
            profiles.append(Profile.model_validate_json(item.body))
        else:
            policies, errors = parse(item.name, item.name, item.body)
            if errors:
                # a policy left out could be the one that forbids
                raise CountersignError(f"stored policy `{item.name}` cannot be read: {errors[0].message}")
            written += policies
    return compile_set(profiles, written)


def plan_change(documents: Iterable[Document], present: Iterable[Declared], tools: Mapping[str, ToolRecord]) -> Plan:
    """What the documents would change. ``tools`` is the catalogue; tools among the documents stand above it."""
    parsed, errors = read_documents(documents)
    if errors:
        # names in a file that cannot be read are not known, and would all seem to be missing
        return Plan(tuple(errors), (), (), None)
    catalogue = dict(tools)
    for item in parsed:
        if isinstance(item.model, Tool):
            catalogue[item.name] = ToolRecord(tool=item.model, version=1, revision=1)
    before = {(item.kind, item.name): item for item in present}
    declared = [_declared(item) for item in parsed if isinstance(item.model, Profile | PolicyFile)]
    after = {**before, **{(item.kind, item.name): item for item in declared}}
    others = [item for key, item in before.items() if key not in {(item.kind, item.name) for item in declared}]
    errors = _check(parsed, catalogue, {name for kind, name in after if kind == "profile"})
    errors += _check_others(parsed, others)
    if errors:
        return Plan(tuple(errors), (), (), None)
    changes = tuple(_change(item, before.get((item.kind, item.name))) for item in declared)
    changed = tuple(i for i, change in zip(declared, changes, strict=True) if change.action != "unchanged")
    return Plan((), changes, changed, compile_declared(after.values()))


def _check(parsed: list[Parsed], tools: Mapping[str, ToolRecord], profiles: set[str]) -> list[FileError]:
    errors: list[FileError] = []
    compiled = {name: compile_tool(record) for name, record in tools.items()}
    schema = cedarpy.Schema.from_json_str(json.dumps(schema_of(compiled)))
    actions = ", ".join(sorted(tools)) or "none: there is no tool yet"
    for item in parsed:
        match item.model:
            case Profile():
                errors += check_profile(item, item.model, tools)
            case PolicyFile():
                policies, found = parse(item.path, item.name, item.model.text)
                errors += found
                for policy in policies:
                    if deep := unusable(policy):
                        errors += deep
                        continue
                    hidden = list(check_policy(policy, tools))
                    errors += hidden or validate(policy, schema, actions)
            case AgentDeclaration() if item.model.profile not in profiles:
                allowed = ", ".join(sorted(profiles)) or "none is declared yet"
                errors.append(item.error(("profile",), f"profile `{item.model.profile}` is unknown", allowed))
    return errors


def _check_others(parsed: list[Parsed], others: list[Declared]) -> list[FileError]:
    """What is declared already and could no longer be read as it was meant."""
    tools = [item for item in parsed if isinstance(item.model, Tool)]
    if not tools:
        return []
    profiles = [Profile.model_validate_json(item.body) for item in others if item.kind == "profile"]
    policies = [p for item in others if item.kind == "policy" for p in parse(item.name, item.name, item.body)[0]]
    return [
        e for item in tools if isinstance(item.model, Tool) for e in check_marks(item, item.model, profiles, policies)
    ]


def _declared(item: Parsed) -> Declared:
    if isinstance(item.model, PolicyFile):
        return Declared("policy", item.name, item.model.text)
    return Declared("profile", item.name, item.model.to_bytes().decode())


def _change(item: Declared, before: Declared | None) -> DeclaredChange:
    action: Literal["create", "update", "unchanged"] = "create"
    if before is not None:
        action = "unchanged" if before.body == item.body else "update"
    return DeclaredChange(
        kind=item.kind,
        name=item.name,
        action=action,
        before=None if before is None else _shown(before),
        after=_shown(item),
    )


def _shown(item: Declared) -> dict[str, Any]:
    if item.kind == "policy":
        return {"text": item.body}
    shown: dict[str, Any] = json.loads(item.body)
    return shown
