"""A stop's scope has one of six forms, and every action falls under exactly the scopes that name it."""

from __future__ import annotations

from datetime import datetime

import pytest
from pydantic import ValidationError

from countersign_contracts.commands import SetStop
from countersign_contracts.control import Stop, scopes_of


@pytest.mark.parametrize(
    "scope",
    ["all", "env:prod", "tool:update_ticket", "profile:write-prod", "agent:support-1", "session:run-2026.01:a"],
)
def test_a_scope_names_everything_or_one_thing(scope: str, at: datetime) -> None:
    assert SetStop(scope=scope, reason="incident", by="alice").scope == scope
    assert Stop(stop_id="stop_1", scope=scope, reason="incident", set_by="alice", set_at=at).scope == scope


@pytest.mark.parametrize(
    "scope",
    [
        "",
        "ALL",
        "all:prod",
        "everything",
        "env",
        "env:",
        "env:Prod",
        "env: prod",
        "env:prod\n",
        "all\n",
        "env:*",
        "agent:>",
        "agent:a.b",
        "tool:update_ticket,close_ticket",
        "approval:apr_1",
        "session:",
    ],
    ids=repr,
)
def test_what_would_stop_nothing_is_refused(scope: str) -> None:
    with pytest.raises(ValidationError):
        SetStop(scope=scope, reason="incident", by="alice")


def test_an_action_falls_under_all_that_names_it() -> None:
    everything = scopes_of(env="prod", tool="t", profile="p", agent="a", session="s:1")
    assert set(everything) == {"all", "env:prod", "tool:t", "profile:p", "agent:a", "session:s:1"}
    assert [SetStop(scope=scope, reason="incident", by="alice").scope for scope in everything] == list(everything)


def test_an_action_without_session_or_profile_falls_under_the_rest() -> None:
    assert scopes_of(env="prod", tool="t", profile=None, agent="a", session=None) == (
        "all",
        "env:prod",
        "tool:t",
        "agent:a",
    )
