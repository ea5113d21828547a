"""What is kept of a heartbeat's body, and that no body breaks the reader."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_contracts.errors import CountersignError
from countersign_registry.heartbeat import MAX_BYTES, read

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "status": st.from_regex(r"[a-z ]{1,64}", fullmatch=True),
            "version": st.from_regex(r"[0-9.]{1,20}", fullmatch=True),
            "uptime_s": st.floats(0, 1e9),
            "load": st.floats(0, 100),
        },
    ),
    st.dictionaries(st.sampled_from(["agent_id", "x", "cpu"]), JSON, max_size=3),
)
def test_the_known_fields_are_kept_and_others_dropped(known: dict[str, object], others: dict[str, object]) -> None:
    body = orjson.dumps(others | known)
    if len(body) <= MAX_BYTES:
        assert read(body) == known


@given(st.binary(max_size=200) | JSON.map(orjson.dumps))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    try:
        kept = read(body)
    except CountersignError as error:
        assert error.code in ("malformed", "too_large")
    else:
        assert kept.keys() <= {"status", "version", "uptime_s", "load"}
        assert orjson.loads(orjson.dumps(kept)) == kept


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b'"up"',
        b'{"status": 1}',
        b'{"status": "a\\u001b[2Jb"}',
        b'{"version": "' + b"1" * 65 + b'"}',
        b'{"uptime_s": "12"}',
        b'{"uptime_s": true}',
        b'{"uptime_s": -1}',
        b'{"load": 1e13}',
        b'{"load": NaN}',
    ],
)
def test_fields_of_the_wrong_kind_are_refused(body: bytes) -> None:
    with pytest.raises(CountersignError) as error:
        read(body)
    assert error.value.code == "malformed"


def test_a_whole_number_is_a_number() -> None:
    assert read(b'{"uptime_s": 12, "load": 0}') == {"uptime_s": 12, "load": 0}


def test_the_specification_s_heartbeat_is_read() -> None:
    body = b'{"agent_id": "a-1", "status": "healthy", "timestamp": "2025-05-27T12:00:00Z", "uptime": 3600}'
    assert read(body) == {"status": "healthy", "uptime_s": 3600}


def test_the_size_is_bounded() -> None:
    body = b'{"x": "' + b"a" * (MAX_BYTES - 9) + b'"}'
    assert (len(body), read(body)) == (MAX_BYTES, {})
    with pytest.raises(CountersignError) as error:
        read(body + b" ")
    assert error.value.code == "too_large"
