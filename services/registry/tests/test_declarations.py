"""What is wrong in a declared agent's file, and where: rules, without any server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from countersign_contracts.catalogue import Document, FileError
from countersign_contracts.commands import ChangePlan
from countersign_contracts.fleet import AgentRecord, Owner
from countersign_registry import declarations
from countersign_registry.lifecycle import Agent

AT = datetime(2026, 3, 1, tzinfo=UTC)
FILE = """\
kind: agent
agent_id: alpha
name: Alpha
owner:
  team: support
profile: support
environments:
  - dev
  - prod
"""


def record(**changes: Any) -> AgentRecord:
    fields: dict[str, Any] = {
        "agent_id": "alpha",
        "name": "Alpha",
        "owner": Owner(team="support"),
        "profile": "support",
        "environments": ("dev", "prod"),
        "status": "active",
        "revision": 3,
    }
    return AgentRecord(**(fields | changes))


def known(**changes: Any) -> dict[str, Agent]:
    agent = Agent(record(**changes), AT, "ann", AT, "ann")
    return {agent.record.agent_id: agent}


def plan(text: str, present: dict[str, Agent] | None = None, path: str = "agents/a.yaml") -> ChangePlan:
    return declarations.plan(declarations.read([Document(path=path, text=text)]), present or {})


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "message", "allowed"),
    [
        ("agent_id: alpha", "agent_id: gateway", 2, "agent_id", "the id `gateway` is reserved", "any other id; "),
        ("name: Alpha", "name: '  '", 3, "name", "`name` is blank or holds", "printable text"),
        ("team: support", 'team: "a\\u202Eb"', 5, "owner.team", "`team` is blank or holds", "printable text"),
        ("  - prod", "  - dev", 9, "environments.1", "environment `dev` is given twice", "each environment once"),
        ("name: Alpha", "nmae: Alpha", 3, "nmae", "did you mean `name`?", "agent_id"),
        ("agent_id: alpha", "agent_id: Alpha!", 2, "agent_id", "not in the allowed form", "text matching"),
    ],
)
def test_an_error_names_line_field_and_what_is_allowed(
    old: str, new: str, line: int, field: str, message: str, allowed: str
) -> None:
    planned = plan(FILE.replace(old, new))
    error = next(e for e in planned.errors if message in e.message)
    assert (error.path, error.line, error.field) == ("agents/a.yaml", line, field)
    assert allowed in (error.allowed or "")
    assert planned.changes == ()


def test_an_agent_declared_twice_is_an_error_that_names_the_first() -> None:
    planned = plan(f"{FILE}---\n{FILE}")
    assert [e.message for e in planned.errors] == ["agent `alpha` is declared twice; first in agents/a.yaml:1"]


def test_errors_of_other_kinds_stop_the_change_too() -> None:
    planned = plan(f"{FILE}---\nkind: tool\n")
    assert planned.errors
    assert all(isinstance(error, FileError) for error in planned.errors)
    assert planned.changes == ()


def test_an_unknown_profile_is_policys_business() -> None:
    assert plan(FILE.replace("profile: support", "profile: nowhere")).errors == ()


def test_the_unchanged_file_of_a_revoked_agent_is_no_error_and_a_changed_one_is() -> None:
    (same,) = plan(FILE, known(status="revoked")).changes
    assert same.action == "unchanged"
    (error,) = plan(FILE.replace("Alpha", "Omega"), known(status="revoked")).errors
    assert (error.line, error.message) == (2, "agent `alpha` was revoked for good and cannot be changed any more")


def test_the_base_moves_with_the_declared_agents_and_with_nothing_else() -> None:
    base = plan(FILE, known()).base
    other = {**known(), **known(agent_id="beta")}
    assert plan(FILE, other).base == base
    assert plan(FILE, known(revision=9, status="paused")).base == base
    assert plan(FILE.replace("Alpha", "Omega"), known()).base == base
    moved = [{}, known(name="Beta"), known(profile="p"), known(environments=("dev",)), known(status="revoked")]
    assert len({base, *(plan(FILE, present).base for present in moved)}) == 6


def test_a_changed_agent_keeps_what_is_not_declared() -> None:
    present = known(status="paused")
    agent = present["alpha"]
    present = {"alpha": replace(agent, record=agent.record.model_copy(update={"name": "Old"}))}
    declared = declarations.read([Document(path="a.yaml", text=FILE)])
    created, (changed,) = declarations.changes(declared, present, "ann", AT, "chg_1")
    assert created == []
    assert changed.record == record(status="paused", revision=4)
    assert [event.event_id() for event in changed.events] == ["alpha.configured.chg_1"]
