"""Lists that do not fit a page say so, with the command that goes on, and leave what programs read alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from typer.testing import CliRunner

from countersign_cli.client import Client
from countersign_cli.main import app

AGENT = {
    "agent": {
        "agent_id": "bot-1",
        "name": "Bot",
        "owner": {"team": "core", "oncall": None},
        "profile": "p",
        "environments": ["dev"],
        "status": "active",
    },
    "phase": "running",
    "last_seen": None,
}
ACTION = {
    "request_id": "01a1fc3f-1c58-7168-9ee5-4e52a762283e",
    "agent_id": "bot-1",
    "tool": "ping",
    "env": "dev",
    "state": "held",
    "at": "2026-01-01T00:00:00Z",
}
LETTER = {
    "seq": 41,
    "consumer": "policy-actions",
    "subject": "actions.requested.bot-1",
    "tries": 8,
    "at": "2026-01-01T00:00:00Z",
    "reason": "malformed",
}


@pytest.mark.parametrize(
    ("list_", "items", "last", "option"),
    [
        (("agents", "list"), [AGENT], "bot-1", "after"),
        (("actions", "list", "--state", "held", "--state", "granted"), [ACTION], ACTION["request_id"], "before"),
        (("deadletter", "list"), [LETTER], 42, "after"),
    ],
)
def test_a_list_that_goes_on_says_how(
    monkeypatch: pytest.MonkeyPatch, list_: tuple[str, ...], items: list[Any], last: str | int, option: str
) -> None:
    asked: list[Mapping[str, Any]] = []

    class Gateway:
        def get(self, path: str, query: Mapping[str, Any]) -> Any:
            asked.append(query)
            return {"items": items, "next": None if query.get(option) else last}

    monkeypatch.setattr(Client, "find", Gateway)
    first = CliRunner().invoke(app, list_)
    assert first.exit_code == 0, first.stderr
    assert first.stderr == f"there are more: countersign {' '.join(list_[:2])} --{option} {last}\n"
    assert "bot-1" in first.stdout and "more" not in first.stdout
    second = CliRunner().invoke(app, [*list_, f"--{option}", str(last)])
    assert (second.exit_code, second.stderr, asked[-1][option]) == (0, "", last)
    if list_[0] == "actions":
        assert asked[-1]["state"] == ["held", "granted"]
    assert json.loads(CliRunner().invoke(app, [*list_, "--json"]).stdout)["next"] == last
