"""What agents look like as services of NATS: read back by nats-py's own models, and by the published form's rules."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.micro.service import ServiceInfo, ServicePing, ServiceStats

from countersign_contracts.observation import VERBS
from countersign_registry.discoverable import Asked, Running, answer, read_asked, semver, service_name

NAME = re.compile(r"[a-zA-Z0-9_-]+")
#: As https://semver.org gives it.
SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|"
    r"\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?",
    re.ASCII,
)


def running(**changes: Any) -> Running:
    fields: dict[str, Any] = {
        "agent_id": "alpha",
        "name": "Alpha, the first",
        "agent_type": "stock-watch",
        "version": "1.4.0",
        "team": "shop",
        "environments": ("dev", "prod"),
        "status": "active",
        "since": datetime(2026, 1, 31, 9, 30, tzinfo=UTC),
        "last_seen": None,
        "heartbeat": {"load": 0.5},
    }
    return Running(**fields | changes)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("1.4.0", "1.4.0"),
        ("1.4.0-rc.1+build.7", "1.4.0-rc.1+build.7"),
        ("1.4", "1.4.0"),
        ("7", "7.0.0"),
        ("v2.1", "2.1.0"),
        ("01.02.03", "1.2.3"),
        ("1.2.3.4", "1.2.3+4"),
        ("1.0rc1", "1.0.0+rc1"),
        ("soon", "0.0.0"),
        ("", "0.0.0"),
        (None, "0.0.0"),
    ],
)
def test_a_version_is_shown_as_the_form_asks_for_it(said: str | None, shown: str) -> None:
    assert semver(said) == shown


@given(st.text(max_size=64), st.text(min_size=1, max_size=128), st.sampled_from(VERBS))
def test_whatever_an_agent_is_called_the_answer_has_the_published_form(version: str, name: str, verb: str) -> None:
    found = json.loads(answer(verb, running(version=version, name=name, agent_type=None)))
    assert found["type"] == f"io.nats.micro.v1.{verb.lower()}_response"
    assert NAME.fullmatch(found["name"]) and SEMVER.fullmatch(found["version"])
    assert all(isinstance(value, str) for value in found["metadata"].values())
    assert all(NAME.fullmatch(endpoint["name"]) for endpoint in found.get("endpoints", []))


def test_nats_py_reads_the_three_answers() -> None:
    agent = running()
    ping = ServicePing.from_dict(json.loads(answer("PING", agent)))
    assert (ping.name, ping.id, ping.version) == ("stock-watch", "alpha", "1.4.0")
    info = ServiceInfo.from_dict(json.loads(answer("INFO", agent)))
    assert info.description == "Alpha, the first"
    assert [endpoint.subject for endpoint in info.endpoints] == ["agents.alpha.results.>", "agents.alpha.control.>"]
    assert (info.metadata["team"], info.metadata["environments"]) == ("shop", "dev,prod")
    stats = ServiceStats.from_dict(json.loads(answer("STATS", agent)))
    assert stats.started == datetime(2026, 1, 31, 9, 30)
    assert [(each.num_requests, each.num_errors) for each in stats.endpoints] == [(0, 0), (0, 0)]
    assert stats.endpoints[0].data == {"heartbeat": {"load": 0.5}, "last_seen": None}


@pytest.mark.parametrize(
    ("subject", "read"),
    [
        ("$SRV.PING", Asked("PING")),
        ("$SRV.INFO.stock-watch", Asked("INFO", "stock-watch")),
        ("$SRV.STATS.stock-watch.alpha", Asked("STATS", "stock-watch", "alpha")),
        ("$SRV.SCHEMA", None),
        ("$SRV", None),
        ("$SRV.PING.a.b.c", None),
        ("$JS.PING", None),
    ],
)
def test_a_question_is_read_from_its_subject(subject: str, read: Asked | None) -> None:
    assert read_asked(subject) == read


@pytest.mark.parametrize(
    ("question", "means"),
    [
        (Asked("PING"), True),
        (Asked("PING", "stock-watch"), True),
        (Asked("PING", "stock-watch", "alpha"), True),
        (Asked("PING", "other"), False),
        (Asked("PING", "stock-watch", "beta"), False),
        (Asked("PING", "other", "alpha"), False),
    ],
)
def test_who_is_asked_answers(question: Asked, means: bool) -> None:
    assert question.means(running()) is means


@pytest.mark.parametrize(
    ("name", "shown"), [("Night bot", "Night-bot"), ("a.b > c*", "a-b-c"), ("…", "alpha"), ("plain_1", "plain_1")]
)
def test_an_agent_without_a_type_is_called_by_its_name(name: str, shown: str) -> None:
    assert service_name(running(agent_type=None, name=name)) == shown
