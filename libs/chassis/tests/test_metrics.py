"""Metrics of a service: what is observed and what is shown."""

from __future__ import annotations

from countersign_chassis.metrics import Metrics, example


def test_what_is_noted_is_counted_when_somebody_looks() -> None:
    metrics = Metrics()
    plain = metrics.histogram("countersign_plain_seconds", "Plain", buckets=(1, 2))
    labelled = metrics.histogram("countersign_labelled_seconds", "Labelled", ["by"], buckets=(1, 2))
    for _ in range(3000):
        plain.observe(0.5)
    plain.observe(1.5, example("0190-1"))
    labelled.labels("a").observe(9)
    look = metrics.registry.get_sample_value
    assert look("countersign_plain_seconds_count") == 3001
    assert look("countersign_plain_seconds_sum") == 1501.5
    assert look("countersign_plain_seconds_bucket", {"le": "1.0"}) == 3000
    assert look("countersign_labelled_seconds_bucket", {"by": "a", "le": "2.0"}) == 0
    assert look("countersign_labelled_seconds_count", {"by": "a"}) == 1
    plain.observe(0.5)
    assert look("countersign_plain_seconds_count") == 3002
    assert b'request_id="0190-1"' in metrics.page("application/openmetrics-text")[0]
