"""Bodies never change, are closed to what they do not know, and say when in one way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from countersign_contracts.errors import Malformed
from countersign_contracts.model import Frozen, Time, loads, rfc3339


class Inner(Frozen):
    n: int = Field(ge=0)


class Body(Frozen):
    """A body with a bit of everything."""

    name: str
    at: Time
    inner: tuple[Inner, ...] = ()
    note: str | None = None


AT = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
moments = st.datetimes(
    datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.sampled_from([UTC, timezone(timedelta(hours=-11))])
)


def test_a_body_cannot_be_changed() -> None:
    body = Body(name="a", at=AT)
    with pytest.raises(ValidationError, match="frozen"):
        body.name = "b"  # type: ignore[misc]


def test_absent_is_how_nothing_is_written() -> None:
    assert Body(name="a", at=AT).to_bytes() == b'{"name":"a","at":"2026-01-31T09:30:00.000000Z","inner":[]}'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"name":"a","at":"2026-01-31T09:30:00Z","nmae":"b"}', "Body: nmae: extra inputs are not permitted"),
        (
            b'{"name":"a","at":"2026-01-31T09:30:00Z","inner":[{"n":1},{"n":1,"m":2}]}',
            "Body: inner.1.m: extra inputs are not permitted",
        ),
        (b'{"at":"2026-01-31T09:30:00Z"}', "Body: name: field required"),
        (b'{"name":"a","at":"2026-01-31T09:30:00Z","inner":[{"n":-1}]}', "Body: inner.0.n: "),
        (b'{"name":"a","at":"2026-01-31T09:30:00"}', "Body: at: value error, a time needs its zone"),
        (b'{"name":"a","at":"2026-01-31"}', "Body: at: value error, a time needs its zone"),
        (b'{"name":"a","at":"yesterday"}', "Body: at: "),
        (b"[]", "Body: body: "),
        (b"{", "Body: body: invalid json"),
        (b"", "Body: body: invalid json"),
        (b"\xff", "Body: body: invalid json"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(body: bytes, message: str) -> None:
    with pytest.raises(Malformed) as refused:
        Body.from_bytes(body)
    assert refused.value.detail.startswith(message)


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(Malformed) as refused:
        Body.from_bytes(b'{"name":{"token":"s3cret"},"at":"s3cret"}')
    assert "s3cret" not in refused.value.detail


@pytest.mark.parametrize(
    "text", ["2026-01-31T09:30:00Z", "2026-01-31T10:30:00+01:00", "2026-01-31T09:30:00.000000+00:00"]
)
def test_a_time_in_any_zone_is_the_same_moment(text: str) -> None:
    body = Body.from_bytes(f'{{"name":"a","at":"{text}"}}'.encode())
    assert body.at == AT
    assert body.at.tzinfo is UTC


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_is_out_of_range_in_utc_is_malformed(text: str) -> None:
    with pytest.raises(Malformed, match="Body: at: "):
        Body.from_bytes(f'{{"name":"a","at":"{text}"}}'.encode())


@given(moments)
def test_a_written_time_is_read_as_the_same_moment(moment: datetime) -> None:
    written = rfc3339(moment)
    assert len(written) == len("2026-01-31T09:30:00.000000Z")
    assert datetime.fromisoformat(written) == moment


@given(moments, moments)
def test_written_times_sort_as_the_moments_do(one: datetime, other: datetime) -> None:
    assert (rfc3339(one) < rfc3339(other)) is (one < other)


@pytest.mark.parametrize("raw", ["", "{", "{'a': 1}", "NaN", "[1,]", '{"a":1} x', '"\\ud800"', b"\xff"])
def test_what_is_not_json_is_malformed(raw: str | bytes) -> None:
    with pytest.raises(Malformed, match="not JSON"):
        loads(raw)
