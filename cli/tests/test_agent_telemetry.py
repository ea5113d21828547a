"""What `countersign agents logs`, `metrics` and `health` ask for and show."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from countersign_cli.client import Client
from countersign_cli.commands import agent_telemetry
from countersign_cli.commands.agent_telemetry import amount, moment
from countersign_cli.main import app
from countersign_contracts.errors import CountersignError, Unavailable


def item(id: str, text: str, level: str = "info", **more: Any) -> dict[str, Any]:
    at = "2026-01-31T12:00:00.120000Z"
    return {"id": id, "at": at, "level": level, "text": text, "fields": {}, "received_at": at} | more


SUMMARY = {
    "reports": 2,
    "covered_s": 120.0,
    "events_succeeded": 9,
    "events_failed": 1,
    "error_share": 0.1,
    "processing_mean_s": 0.05,
    "cpu_share": 0.03,
    "memory_bytes": 61_865_984,
}


class Gateway(Client):
    """Answers what it is given; ``live`` are the streams of events, one after the other."""

    def __init__(self, answers: dict[str, Any], live: tuple[list[Any], ...] = ()) -> None:
        self.answers = answers
        self.live = list(live)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def get(self, path: str, query: Mapping[str, Any] | None = None, *, timeout_s: float = 30) -> Any:
        self.asked.append((path, {k: v for k, v in (query or {}).items() if v is not None}))
        answer = self.answers[path.rpartition("/")[2]]
        return answer.pop(0) if isinstance(answer, list) and len(answer) > 1 else answer[0]

    def events(self, path: str, *, silence_s: float = 45) -> Iterator[tuple[str, dict[str, Any]]]:
        self.asked.append((path, {}))
        if not self.live:
            raise KeyboardInterrupt
        for said in self.live.pop(0):
            if isinstance(said, CountersignError):
                raise said
            yield said


def run(monkeypatch: pytest.MonkeyPatch, gateway: Gateway, *arguments: str) -> Any:
    monkeypatch.setattr(Client, "find", lambda *_: gateway)
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["agents", *arguments])


def test_a_log_is_shown_the_newest_last_and_nothing_in_it_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    newest = item("b.1", "[red]no\x1b[2J\nTraceback\n  boom", "error", logger="shop", fields={"order": "A 5", "n": 3})
    gateway = Gateway({"logs": [{"items": [newest, item("b.0", "first")]}]})
    shown = run(
        monkeypatch,
        gateway,
        *("logs", "bot", "--level", "info", "--text", "o", "--since", "2026-01-31T12:00:00Z", "--limit", "7"),
    )
    assert shown.exit_code == 0, shown.output
    assert shown.output.splitlines() == [
        "2026-01-31 12:00:00Z  info      first",
        "2026-01-31 12:00:00Z  error     shop: [red]no\\x1b[2J  order=A 5 n=3",
        "    Traceback",
        "      boom",
    ]
    query = {"level": "info", "text": "o", "since": "2026-01-31T12:00:00Z", "limit": 7}
    assert gateway.asked == [("/api/v1/agents/bot/logs", query)]


def test_following_shows_each_record_once_across_pages_and_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_telemetry, "_PAUSES_S", (0.0,))
    monkeypatch.setattr(threading.Timer, "start", lambda self: None)
    one, two, three, four = (item(f"b.{n}", f"no. {n}") for n in range(4))
    gateway = Gateway(
        {"logs": [{"items": [two, one]}, {"items": [three, two]}, {"items": [four, three]}]},
        (
            [("open", {}), ("log", {"log": two}), ("lost", {"reason": "?"}), Unavailable("away")],
            [("open", {}), ("log", {"log": four}), ("end", {"reason": "this gateway stops"})],
        ),
    )
    shown = run(monkeypatch, gateway, "logs", "bot", "--follow", "--level", "info", "--json")
    assert shown.exit_code == 0, shown.output
    assert [json.loads(line)["text"] for line in shown.stdout.splitlines()] == ["no. 0", "no. 1", "no. 2", "no. 3"]
    assert gateway.asked[0][0] == "/api/v1/agents/bot/logs/live?level=info"


def test_what_came_just_before_following_is_looked_for_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Timer, "start", lambda self: self.function())
    late, early = item("b.1", "late"), item("b.0", "early")
    gateway = Gateway({"logs": [{"items": [early]}, {"items": [late, early]}]}, ([("open", {})],))
    shown = run(monkeypatch, gateway, "logs", "bot", "-f")
    assert [line.split()[-1] for line in shown.stdout.splitlines()] == ["early", "late"]


def test_a_void_token_ends_the_following(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = CountersignError("the credential is not known", code="unauthenticated")
    shown = run(monkeypatch, Gateway({}, ([refused],)), "logs", "bot", "--follow")
    assert shown.exit_code == 1
    shown = run(monkeypatch, Gateway({}), "logs", "bot", "--follow", "--until", "1h")
    assert shown.exit_code == 2


def test_metrics_and_health_are_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    report = {
        "at": "2026-01-31T12:00:00Z",
        "interval_s": 60.0,
        "events_succeeded": 4,
        "events_failed": 1,
        "values": {"queue": 3.0},
    }
    page = {"items": [report], "summary": SUMMARY}
    words = " ".join(run(monkeypatch, Gateway({"metrics": [page]}), "metrics", "bot").output.split())
    assert "reports 2, of 120 s events 10, 1 of them failed (10.0%) time for each 50.0 ms" in words
    assert "CPU 3.0% of a core memory 59.0 MiB" in words and "60 s 5 1 - queue=3" in words
    sick = {
        "healthy": False,
        "reasons": ["it has failed: nothing heard"],
        "status": "active",
        "phase": "failed",
        "phase_since": "2026-01-31T12:00:00Z",
        "said": {"status": "healthy"},
        "errors_last_hour": 2,
        "last_hour": SUMMARY,
    }
    shown = run(monkeypatch, Gateway({"health": [sick]}), "health", "bot")
    assert shown.exit_code == 1 and "bot does not do well\n  it has failed: nothing heard\n" in shown.output
    assert run(monkeypatch, Gateway({"health": [sick | {"healthy": True}]}), "health", "bot", "--json").exit_code == 0


def test_times_are_given_as_spans_or_as_they_are() -> None:
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert moment("90m", at) == "2026-01-31T10:30:00Z"
    assert moment("2d", at) == "2026-01-29T12:00:00Z"
    assert moment("2026-01-31T12:00:00Z", at) == "2026-01-31T12:00:00Z"
    assert moment(None) is None and moment("soon", at) == "soon"
    assert [amount(each) for each in (None, 0, 2047, 3 * 2**20, 2**31)] == ["", "0 B", "2.0 KiB", "3.0 MiB", "2.0 GiB"]
