"""What is kept of an answer: bounded, hashed whole, masked, and readable by everyone on the bus."""

import hashlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_contracts.actions import Execution
from countersign_contracts.model import now
from countersign_contracts.topology import MAX_PAYLOAD_BYTES
from countersign_executor.answer import MAX_RESULT_BYTES, Answer, Body
from countersign_executor.secrets import Secrets

NONE = Secrets()
SECRETS = Secrets({"KEY": "hunter2hunter2"})
JSON = "application/json"


def answer(body: bytes, kind: str = JSON, limit: int = 65536, secrets: Secrets = NONE, whole: bool = True) -> Answer:
    collected = Body(limit)
    for start in range(0, len(body), 1000):
        assert collected.feed(body[start : start + 1000])
    return collected.answer(200, kind, secrets, whole=whole)


@pytest.mark.parametrize(
    ("body", "kind", "result"),
    [
        (b'{"a":[1,null]}', JSON, {"a": [1, None]}),
        (b'{"a":1}', "application/problem+json; charset=utf-8", {"a": 1}),
        (b'{"a":1}', "text/plain", '{"a":1}'),
        (b'{"a":1}', "", '{"a":1}'),
        (b"not json", JSON, "not json"),
        (b"", JSON, None),
        (b"null", JSON, None),
        ("grüße".encode(), "text/plain", "grüße"),
        ("grüße".encode("latin-1"), "text/plain; charset=ISO-8859-1", "grüße"),
        (b"\xff\xfe\x00x", "application/octet-stream", "\ufffd\ufffd\ufffdx"),
        (b'{"a\\u0000":"b\\u0000"}', JSON, {"a\ufffd": "b\ufffd"}),
        (b'{"n":1e400}', JSON, '{"n":1e400}'),
        (b'"\\ud800"', JSON, '"\\ud800"'),
    ],
)
def test_what_becomes_of_a_body(body: bytes, kind: str, result: Any) -> None:
    kept = answer(body, kind)
    assert kept.result == result
    assert (kept.truncated, kept.size) == (False, len(body))
    assert kept.sha256 == hashlib.sha256(body).hexdigest()


def test_a_long_body_is_cut_with_a_marker_and_hashed_whole() -> None:
    body = orjson.dumps({"text": "x" * 5000})
    kept = answer(body, limit=100)
    assert kept.truncated
    assert kept.result == body[:100].decode() + f"\n[cut by countersign: the answer has {len(body)} bytes]"
    assert (kept.sha256, kept.size) == (hashlib.sha256(body).hexdigest(), len(body))


def test_a_limit_of_nothing_keeps_nothing_but_the_hash() -> None:
    kept = answer(b"abc", limit=0)
    assert kept.truncated and kept.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert kept.result == "\n[cut by countersign: the answer has 3 bytes]"


def test_half_a_body_has_no_hash() -> None:
    kept = answer(b'{"a":', whole=False)
    assert (kept.truncated, kept.sha256, kept.size) == (True, None, None)


def test_reading_ends_at_the_cap() -> None:
    body = Body(10, cap=2000)
    assert body.feed(b"x" * 2000)
    assert not body.feed(b"x")


def test_an_echoed_secret_is_masked_in_json_text_and_at_the_cut() -> None:
    assert answer(b'{"headers":{"auth":"Bearer hunter2hunter2"}}', secrets=SECRETS).result == {
        "headers": {"auth": "Bearer ***"}
    }
    assert answer(b"you sent hunter2hunter2", "text/plain", secrets=SECRETS).result == "you sent ***"
    cut = answer(b"you sent hunter2hunter2", "text/plain", limit=18, secrets=SECRETS)
    assert cut.result.startswith("you sent \n[cut")


@given(body=st.binary(max_size=3000), limit=st.integers(0, 3000), kind=st.sampled_from([JSON, "text/html", ""]))
def test_any_body_makes_a_result_that_every_reader_reads(body: bytes, limit: int, kind: str) -> None:
    assert_readable(answer(body, kind, limit))


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_any_json_makes_a_result_that_every_reader_reads(value: Any) -> None:
    try:
        body = orjson.dumps(value)
    except orjson.JSONEncodeError:  # integers that do not fit into 64 bits
        return
    assert_readable(answer(body))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 5000 + b"]" * 5000,
        b"[" * 300 + b"]" * 300,
        b'{"a":' * 300 + b"1" + b"}" * 300,
        b"\x01" * 262144,
        b'"' + b"\\u0001" * 43000 + b'"',
        b"[" + b"9E15," * 52000 + b"1]",
        b'["' + b"\\n" * 131000 + b'"]',
        b"\xff" * 262144,
    ],
)
def test_hostile_bodies_fit_a_message_and_are_read_by_everyone(body: bytes) -> None:
    for kind in (JSON, "text/plain"):
        kept = answer(body, kind, limit=262144)
        assert_readable(kept)
        assert len(orjson.dumps(kept.result)) <= MAX_RESULT_BYTES + 200 < MAX_PAYLOAD_BYTES / 2 + 1000


def assert_readable(kept: Answer) -> None:
    execution = Execution(
        execution_id="exe_1", outcome="succeeded", attempts=1, fence=1, result=kept.result, finished_at=now()
    )
    stored = execution.to_bytes()
    again = Execution.from_bytes(stored)
    assert again.to_bytes() == stored
    assert again.result == kept.result
    assert "\0" not in str(again.result)
