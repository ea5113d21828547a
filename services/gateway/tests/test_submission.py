"""What agents may send, and what is said where it is wrong."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now
from countersign_gateway.submission import (
    BusSubmission,
    Submission,
    check_identity,
    make_action,
    read_submission,
    request_text,
    wait_seconds,
)

GOOD: dict[str, Any] = {"tool": "read_thing", "args": {"thing_id": 1}, "env": "prod"}


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"tool": "no such; tool"}, "invalid", "tool"),
        ({"tool": None}, "invalid", "tool"),
        ({"env": "PROD"}, "invalid", "env"),
        ({"args": [1]}, "invalid", "args"),
        ({"args": {"a": nested(40)}}, "too_large", "deeper"),
        ({"args": {"a": list(range(20_000))}}, "too_large", "more than"),
        ({"surprise": 1}, "invalid", "surprise"),
        ({"session_id": "a b"}, "invalid", "session_id"),
        ({"on_behalf_of": "alice"}, "invalid", "on_behalf_of"),
        ({"on_behalf_of": ["person:a", "nobody"]}, "invalid", "on_behalf_of"),
        ({"reason": "x" * 2001}, "invalid", "reason"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], code: str, says: str) -> None:
    with pytest.raises(CountersignError) as refused:
        read_submission(orjson.dumps(GOOD | change), Submission)
    assert refused.value.code == code and says in refused.value.detail


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"tool": NaN}', b"{" * 100_000])
def test_what_is_no_json_object_is_malformed(raw: bytes) -> None:
    with pytest.raises(CountersignError) as refused:
        read_submission(raw, Submission)
    assert refused.value.code == "malformed"


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    with contextlib.suppress(CountersignError):
        read_submission(raw, BusSubmission)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=20))
def test_no_arguments_raise_anything_else(value: Any) -> None:
    submission = Submission(tool="t", env="prod", args={"a": value})
    try:
        action = make_action(
            submission,
            submission.args,
            request_id="0" * 8 + "-0000-7000-8000-" + "0" * 12,
            agent_id="a",
            tool_version=1,
            at=now(),
        )
    except CountersignError as error:
        assert error.code == "malformed"
    else:
        assert action.computed_digest() == action.digest


def test_a_credential_acts_for_its_own_agent_only() -> None:
    check_identity("a", body=None, header=None)
    check_identity("a", body="a", header="a")
    for names in ({"body": "b", "header": None}, {"body": None, "header": "b"}):
        with pytest.raises(CountersignError) as refused:
            check_identity("a", **names)
        assert refused.value.code == "identity_mismatch" and refused.value.status == 403


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("wait", 25),
        ("wait=5", 5),
        ("wait=5000", 300),
        ("respond-async, wait=7", 7),
        ("handling=lenient", None),
        ('wait="3"', 3),
    ],
)
def test_prefer_wait(header: str | None, seconds: float | None) -> None:
    assert wait_seconds(header, default=25, longest=300) == seconds


def test_prefer_wait_takes_a_number() -> None:
    with pytest.raises(CountersignError, match="takes seconds"):
        wait_seconds("wait=soon", default=25, longest=300)


def test_the_same_body_has_the_same_text_whatever_its_request_id() -> None:
    one = BusSubmission(request_id="0" * 8 + "-0000-7000-8000-" + "0" * 12, **GOOD)
    other = BusSubmission(request_id="1" * 8 + "-0000-7000-8000-" + "0" * 12, wait_s=3, **GOOD)
    assert request_text(one) == request_text(other) == request_text(Submission(**GOOD))
    assert request_text(one) != request_text(Submission(**(GOOD | {"args": {"thing_id": 2}})))


@pytest.mark.parametrize(
    "args", [{"$sealed": "x"}, {"a": {"$sealed": None}}, {"a": [1, {"b": {"$sealed": "x", "mark": "y"}}]}]
)
def test_no_agent_says_that_something_is_sealed(args: dict[str, Any]) -> None:
    with pytest.raises(CountersignError) as refused:
        read_submission(orjson.dumps(GOOD | {"args": args}), BusSubmission)
    assert refused.value.code == "invalid" and "`$sealed` is Countersign's own" in refused.value.detail
