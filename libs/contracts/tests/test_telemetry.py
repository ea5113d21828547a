"""What an agent sends of its work: what is taken, what is refused, and what becomes of what cannot be stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from countersign_contracts.errors import CountersignError
from countersign_contracts.telemetry import MOST, MOST_AHEAD, MOST_BYTES, LogBatch, MetricReport, opened

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


def logs(**changes: Any) -> bytes:
    record = {"at": "2026-11-21T12:00:00Z", "text": "hello"} | changes
    return orjson.dumps({"batch": "12345678", "records": [record]})


def metrics(**changes: Any) -> bytes:
    return orjson.dumps({"batch": "12345678", "at": "2026-11-21T12:00:00Z", "interval_s": 60} | changes)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"a.b_1": True}, {"a.b_1": True}),
        ({"n": 1, "x": 1.5, "none": None}, {"n": 1, "x": 1.5, "none": None}),
        ({"n": MOST}, {"n": MOST}),
        ({"n": 2**60}, {"n": float(2**60)}),
        ({"s": "a\x00b"}, {"s": "a\ufffdb"}),
    ],
)
def test_fields_keep_their_kind_and_fit_where_they_are_stored(fields: dict[str, Any], kept: dict[str, Any]) -> None:
    (record,) = opened(LogBatch, logs(fields=fields), AT).records
    assert [(k, type(v), v) for k, v in record.fields.items()] == [(k, type(v), v) for k, v in kept.items()]


def test_no_nul_is_left_in_what_an_agent_says() -> None:
    (record,) = opened(LogBatch, logs(text="a\x00b", logger="c\x00"), AT).records
    assert (record.text, record.logger) == ("a\ufffdb", "c\ufffd")


@pytest.mark.parametrize(
    ("kind", "body", "code", "why"),
    [
        (LogBatch, b"", "malformed", "EOF"),
        (LogBatch, b"\xff", "malformed", ""),
        (LogBatch, b'{"batch":"12345678","records":[]}', "malformed", "records"),
        (LogBatch, logs(level="loud"), "malformed", "records.0.level"),
        (LogBatch, logs(text=""), "malformed", "records.0.text"),
        (LogBatch, logs(text="x" * 8193), "malformed", "records.0.text"),
        (LogBatch, logs(fields={"A": 1}), "malformed", "records.0.fields"),
        (LogBatch, logs(fields={"a": [1]}), "malformed", "records.0.fields"),
        (LogBatch, logs(fields={f"f{n}": n for n in range(33)}), "malformed", "records.0.fields"),
        (LogBatch, logs(at="2026-11-21T12:00:00"), "malformed", "needs its zone"),
        (LogBatch, logs(at="2026-11-21T12:05:01Z"), "invalid", "set the agent's clock"),
        (LogBatch, logs() + b" " * MOST_BYTES, "too_large", "262144"),
        (MetricReport, metrics(interval_s=0), "malformed", "interval_s"),
        (MetricReport, metrics(events_failed=-1), "malformed", "events_failed"),
        (MetricReport, metrics(memory_bytes=MOST + 1), "malformed", "memory_bytes"),
        (MetricReport, metrics().replace(b"60", b"1e999"), "malformed", "interval_s"),
        (MetricReport, metrics(values={"a": None}), "malformed", "values.a"),
        (MetricReport, metrics(at="2026-11-21T12:05:01Z"), "invalid", "at most 300 s"),
    ],
)
def test_what_is_refused_says_where_and_why(kind: Any, body: bytes, code: str, why: str) -> None:
    with pytest.raises(CountersignError) as refused:
        opened(kind, body, AT)
    assert refused.value.code == code
    assert why.lower() in refused.value.detail.lower()


def test_clocks_may_differ_a_little_and_what_is_late_is_taken() -> None:
    for at in (AT + MOST_AHEAD, AT, AT - timedelta(days=400)):
        assert opened(MetricReport, metrics(at=at.isoformat()), AT).at == at
        assert opened(LogBatch, logs(at=at.isoformat()), AT).latest() == at
