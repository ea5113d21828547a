"""Identifiers sort by time and cannot collide; a name fits into one token of a subject."""

from __future__ import annotations

import os
import time
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from countersign_contracts import ids
from countersign_contracts.ids import is_request_id, new_id, prefixed

EARLY, LATE = 1_769_850_000_000_000_000, 1_769_850_000_001_000_000


def made_at(monkeypatch: pytest.MonkeyPatch, nanoseconds: int, random: bytes) -> str:
    monkeypatch.setattr(time, "time_ns", lambda: nanoseconds)
    monkeypatch.setattr(os, "urandom", lambda size: random[:size])
    return new_id()


def test_an_id_is_a_uuid_of_version_7() -> None:
    made = UUID(new_id())
    assert made.version == 7
    assert str(made.variant) == "specified in RFC 4122"
    assert abs((made.int >> 80) - time.time() * 1000) < 60_000


def test_its_bits_are_where_the_standard_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9562, 5.7: 48 bits of milliseconds, the version, 12 random bits, the variant, 62 random bits."""
    assert made_at(monkeypatch, 0x017F22E279B0 * 1_000_000, b"\xff" * 10) == "017f22e2-79b0-7fff-bfff-ffffffffffff"
    assert made_at(monkeypatch, 0x017F22E279B0 * 1_000_000, b"\x00" * 10) == "017f22e2-79b0-7000-8000-000000000000"


@given(st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_ids_of_later_milliseconds_sort_later_as_text(early: bytes, late: bytes) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert made_at(monkeypatch, EARLY, early) < made_at(monkeypatch, LATE, late)


def test_ids_of_one_millisecond_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: EARLY)
    assert len({new_id() for _ in range(10_000)}) == 10_000


def test_a_prefix_says_what_an_id_names() -> None:
    made = prefixed("apr")
    assert made.startswith("apr_")
    assert UUID(made.removeprefix("apr_")).version == 7


ID = "0197a3b2-7c00-7000-8000-000000000001"


@pytest.mark.parametrize(
    "text", ["", ID.upper(), ID[:-1], ID + "0", ID.replace("-", ""), f" {ID}", f"{ID}\n", f"{ID} "]
)
def test_what_only_looks_like_a_request_id_is_none(text: str) -> None:
    assert is_request_id(ID)
    assert not is_request_id(text)


NAMES: dict[str, tuple[Any, list[str]]] = {
    "agent": (ids.AgentId, ["support-1", "0", "a" * 63, "a_b"]),
    "tool": (ids.ToolName, ["list_tickets", "t2"]),
    "profile": (ids.ProfileName, ["write-prod", "a_b"]),
    "environment": (ids.Env, ["prod", "eu-west-1"]),
    "session": (ids.SessionId, ["run.2026-01:a", "A"]),
    "principal": (ids.PrincipalId, ["person:alice@example.com", "system:cron/nightly", "agent:planner"]),
    "request": (ids.RequestId, [ID]),
    "digest": (ids.Digest, [f"sha256:{'0' * 64}"]),
}
NEVER = ["", " ", "*", ">", "a b", "a*", "a>", "a\n", "\na", "a\0", "ä", "../a", "a/../b", "-a", "_a", "a" * 400]


@pytest.mark.parametrize(("kind", "good"), NAMES.values(), ids=NAMES.keys())
def test_a_name_holds_nothing_that_a_subject_or_a_path_would_read(kind: Any, good: list[str]) -> None:
    adapter = TypeAdapter(kind)
    for name in good:
        assert adapter.validate_python(name) == name
        for wrong in (f"{name}\n", f"{name} ", f"{name}*", f" {name}", f"{name}\0"):
            with pytest.raises(ValidationError):
                adapter.validate_python(wrong)
    for name in NEVER:
        with pytest.raises(ValidationError):
            adapter.validate_python(name)


@pytest.mark.parametrize("kind", [ids.AgentId, ids.ToolName, ids.ProfileName, ids.Env, ids.RequestId])
def test_a_name_that_stands_in_a_subject_is_one_token(kind: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python("a.b")
