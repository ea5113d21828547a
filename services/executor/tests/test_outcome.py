"""From attempts to an outcome, and whether to try again."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_contracts.actions import Execution, Failure
from countersign_contracts.catalogue import Tool
from countersign_executor.answer import Answer
from countersign_executor.outcome import (
    Attempt,
    RetryRules,
    conclude,
    interrupted,
    judged_status,
    pause_before_retry,
    repeatable,
    retry_after_s,
)

AT = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
RULES = RetryRules(first_pause_s=0.2, max_pause_s=5, max_retry_after_s=10, budget_s=60)


def answered(status: int, retry_after: float | None = None) -> Attempt:
    return Attempt("answered", Answer(status, {"ok": 1}, False, "00", 8), judged_status(status), retry_after)


def lost(code: str = "timeout") -> Attempt:
    return Attempt("lost", failure=Failure(code=code, message=code))


def not_sent(code: str = "connection") -> Attempt:
    return Attempt("not_sent", failure=Failure(code=code, message=code))


def half(status: int = 200) -> Attempt:
    return Attempt("lost", Answer(status, "{", True, None, None), Failure(code="connection", message="broke off"))


def concluded(tool: Tool, *attempts: Attempt, before: bool = False, withheld: str | None = None) -> Execution:
    return conclude(
        tool,
        attempts,
        execution_id="exe_1",
        fence=2,
        interrupted_before=before,
        started_at=AT,
        finished_at=AT,
        withheld=withheld,
    )


@pytest.mark.parametrize(
    ("attempts", "outcome", "code"),
    [
        ([answered(200)], "succeeded", None),
        ([answered(204)], "succeeded", None),
        ([answered(299)], "succeeded", None),
        ([answered(302)], "failed", "redirect_refused"),
        ([answered(304)], "failed", "redirect_refused"),
        ([answered(400)], "failed", "downstream_status"),
        ([answered(404)], "failed", "downstream_status"),
        ([answered(429)], "failed", "downstream_status"),
        ([answered(500)], "failed", "downstream_status"),
        ([answered(503)], "failed", "downstream_status"),
        ([answered(502)], "unknown", "downstream_status"),
        ([answered(504)], "unknown", "downstream_status"),
        ([answered(101)], "failed", "downstream_status"),
        ([not_sent()], "failed", "connection"),
        ([not_sent("timeout")], "failed", "timeout"),
        ([not_sent("egress_refused")], "failed", "egress_refused"),
        ([lost()], "unknown", "timeout"),
        ([lost("connection")], "unknown", "connection"),
        ([half()], "unknown", "connection"),
        ([lost(), answered(200)], "succeeded", None),
        ([lost(), answered(503)], "unknown", "downstream_status"),
        ([lost(), answered(409)], "unknown", "downstream_status"),
        ([lost(), not_sent()], "unknown", "connection"),
        ([answered(503), not_sent()], "failed", "connection"),
        ([answered(503), lost()], "unknown", "timeout"),
        ([not_sent(), answered(201)], "succeeded", None),
    ],
)
def test_outcomes(make_tool: Callable[..., Tool], attempts: list[Attempt], outcome: str, code: str | None) -> None:
    execution = concluded(make_tool(idempotent=True), *attempts)
    assert execution.outcome == outcome
    assert (execution.failure.code if execution.failure else None) == code
    assert (execution.attempts, execution.fence) == (len(attempts), 2)


def test_a_lookup_has_no_effect_so_it_is_never_unknown(make_tool: Callable[..., Tool]) -> None:
    assert concluded(make_tool(effect="read"), lost()).outcome == "failed"


@pytest.mark.parametrize("last", [answered(404), answered(503), not_sent(), lost()])
def test_after_an_interrupted_claim_only_success_is_certain(make_tool: Callable[..., Tool], last: Attempt) -> None:
    execution = concluded(make_tool(idempotent=True), last, before=True)
    assert execution.outcome == "unknown"
    assert execution.failure is not None and "an earlier attempt was interrupted" in execution.failure.message
    assert concluded(make_tool(idempotent=True), answered(200), before=True).outcome == "succeeded"


def test_a_stop_before_the_next_try_leaves_what_is_known(make_tool: Callable[..., Tool]) -> None:
    failed = concluded(make_tool(idempotent=True), answered(503), withheld="stopped (all): fire")
    assert failed.outcome == "failed"
    assert failed.failure is not None and failed.failure.message.endswith("no further attempt: stopped (all): fire")
    assert concluded(make_tool(idempotent=True), lost(), withheld="stopped").outcome == "unknown"
    nothing_more = concluded(make_tool(idempotent=True), before=True, withheld="stopped")
    assert (nothing_more.outcome, nothing_more.attempts) == ("unknown", 0)


def test_an_unknown_outcome_tells_people_what_to_do(make_tool: Callable[..., Tool]) -> None:
    for execution in (concluded(make_tool(), lost()), interrupted("exe_1", 2, "why", AT)):
        assert execution.outcome == "unknown"
        assert execution.failure is not None and "reconcile" in execution.failure.message


@given(
    attempts=st.lists(
        st.sampled_from([answered(200), answered(404), answered(503), lost(), not_sent(), half(), half(500)]),
        min_size=1,
    ),
    before=st.booleans(),
)
def test_no_doubt_is_ever_called_a_failure(
    make_tool: Callable[..., Tool], attempts: list[Attempt], before: bool
) -> None:
    execution = concluded(make_tool(idempotent=True), *attempts, before=before)
    doubt = before or any(attempt.kind == "lost" for attempt in attempts)
    said_yes = attempts[-1].kind == "answered" and execution.status_code == 200
    assert execution.outcome == ("succeeded" if said_yes else "unknown" if doubt else "failed")


@pytest.mark.parametrize(
    ("attempt", "again"),
    [
        (answered(200), False),
        (answered(302), False),
        (answered(400), False),
        (answered(409), False),
        (answered(429), True),
        (answered(500), False),
        (answered(502), True),
        (answered(503), True),
        (answered(504), True),
        (lost(), True),
        (lost("connection"), True),
        (half(), True),
        (not_sent(), True),
        (not_sent("egress_refused"), False),
    ],
)
def test_only_what_may_pass_is_tried_again_and_only_where_it_does_no_harm(
    make_tool: Callable[..., Tool], attempt: Attempt, again: bool
) -> None:
    def pause(tool: Tool) -> float | None:
        return pause_before_retry(tool, [attempt], RULES, elapsed_s=0, chance=random.Random(1))

    assert (pause(make_tool(idempotent=True)) is not None) is again
    assert (pause(make_tool(effect="read")) is not None) is again
    assert pause(make_tool(idempotent=False)) is None
    assert repeatable(make_tool(effect="read")) and not repeatable(make_tool())


@given(
    tries=st.integers(1, 12), retry_after=st.none() | st.floats(0, 20), elapsed=st.floats(0, 100), seed=st.integers()
)
def test_trying_again_is_bounded(
    make_tool: Callable[..., Tool], tries: int, retry_after: float | None, elapsed: float, seed: int
) -> None:
    tool = make_tool(idempotent=True, http={"retries": 6})
    attempts = [answered(503, retry_after)] * tries
    pause = pause_before_retry(tool, attempts, RULES, elapsed_s=elapsed, chance=random.Random(seed))
    if tries > 6 or (retry_after is not None and retry_after > 10):
        assert pause is None
    if pause is not None:
        assert elapsed + pause <= RULES.budget_s
        assert pause >= max(retry_after or 0, min(5, 0.2 * 2 ** (tries - 1)) / 2)
        assert pause <= max(retry_after or 0, min(5, 0.2 * 2 ** (tries - 1)))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("120", 120),
        (" 0 ", 0),
        ("99999999999999999999", 999999999),
        ("soon", None),
        ("-5", None),
        ("Sat, 31 Jan 2026 12:00:30 GMT", 30),
        ("Sat, 31 Jan 2026 11:00:00 GMT", 0),
        ("Sat, 99 Jan 2026 11:00:00 GMT", None),
        ("Sat, 31 Jan 99999999999999999999 11:00:00 GMT", None),
        ("Sat, 31 Jan 2026 11:00:00 +99999999999999", None),
    ],
)
def test_retry_after_is_read_in_both_forms(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, AT) == seconds


def test_a_retry_after_without_zone_is_utc() -> None:
    assert retry_after_s("Sat, 31 Jan 2026 12:00:30 -0000", AT) == timedelta(seconds=30).total_seconds()
