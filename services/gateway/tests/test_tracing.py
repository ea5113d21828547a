"""A trace context is passed on; anything else is nobody's header."""

from __future__ import annotations

import pytest

from countersign_gateway.tracing import traceparent

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_trace_context_is_passed_on() -> None:
    assert traceparent(GOOD) == GOOD


@pytest.mark.parametrize(
    "given", [None, "", GOOD.upper(), GOOD + "\n", GOOD + "\r\nNats-Rollup: all", GOOD[:-1], "\u0660" + GOOD[1:]]
)
def test_anything_else_is_ignored(given: str | None) -> None:
    assert traceparent(given) is None
