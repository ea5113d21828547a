"""What `countersign stops set` says of a scope with nothing in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from typer.testing import CliRunner

from countersign_cli.client import Client
from countersign_cli.main import app
from countersign_contracts.errors import CountersignError, Unavailable

AGENT = {"agent_id": "known", "environments": ["prod"], "profile": "worker"}


class Gateway(Client):
    """Knows one agent, one tool and one session."""

    def __init__(self, broken: CountersignError | None = None) -> None:
        self.broken = broken

    def get(self, path: str, query: Mapping[str, Any] | None = None, *, timeout_s: float = 30) -> Any:
        if self.broken is not None:
            raise self.broken
        match path.removeprefix("/api/v1/"):
            case "agents/known":
                return {"agent": AGENT}
            case "agents":
                return {"items": [{"agent": AGENT}]}
            case "tools":
                return {"items": [{"tool": {"name": "known"}}]}
            case "actions":
                assert query is not None
                return {"items": [{}] if query["session_id"] == "known" else []}
        raise CountersignError("there is none", code="not_found")

    def post(self, path: str, body: Any, *, timeout_s: float = 60, headers: Mapping[str, str] | None = None) -> Any:
        if body["scope"] == "wrong":
            raise CountersignError(
                "body.scope: a scope is `all` or so",
                code="invalid",
                errors=[
                    {"field": "body.scope", "message": "A scope is `all` or so"},
                    {"field": "body.reason", "message": "too long"},
                ],
            )
        return {"stop_id": "stp_1", **body}


def set_stop(monkeypatch: pytest.MonkeyPatch, scope: str, gateway: Gateway) -> Any:
    monkeypatch.setattr(Client, "find", lambda *_: gateway)
    return CliRunner().invoke(app, ["stops", "set", "--scope", scope, "--reason", "r"])


@pytest.mark.parametrize(
    ("scope", "says"),
    [
        ("agent:nobody", "no agent nobody is known (yet)"),
        ("tool:nothing", "no tool nothing is known (yet)"),
        ("session:none", "no action of session none is known (yet)"),
        ("env:prd", "no agent with environment prd is known (yet)"),
        ("profile:other", "no agent with profile other is known (yet)"),
    ],
)
def test_a_scope_with_nothing_in_it_is_stopped_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, scope: str, says: str
) -> None:
    done = set_stop(monkeypatch, scope, Gateway())
    assert done.exit_code == 0 and f"stopped {scope}" in done.stdout
    assert done.stderr == f"warning: {says}: the stop is in force all the same\n"


@pytest.mark.parametrize("scope", ["all", "agent:known", "tool:known", "session:known", "env:prod", "profile:worker"])
def test_what_is_known_needs_no_warning(monkeypatch: pytest.MonkeyPatch, scope: str) -> None:
    done = set_stop(monkeypatch, scope, Gateway())
    assert done.exit_code == 0 and done.stderr == ""


def test_a_look_that_fails_is_no_failure_of_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    done = set_stop(monkeypatch, "agent:nobody", Gateway(Unavailable("registry is down")))
    assert done.exit_code == 0 and "stopped" in done.stdout and done.stderr == ""


def test_what_is_wrong_with_a_scope_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    done = set_stop(monkeypatch, "wrong", Gateway())
    assert done.exit_code == 1
    assert done.stderr.lower().count("a scope is") == 1 and "  body.reason: too long" in done.stderr
