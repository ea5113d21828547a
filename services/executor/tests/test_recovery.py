"""What a grant means for an execution that is in the table already (promise 5: at most one effect)."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_executor.recovery import (
    AnotherAction,
    ExecutionRow,
    GiveUp,
    Later,
    Republish,
    Resume,
    Untouched,
    decide_repeat,
)

STARTED = ExecutionRow("r", "exe_1", "sha256:a", "started", 3, "own_1", None, None, None)
ENDED = replace(STARTED, state="succeeded", event=b"{}")


def decide(row: ExecutionRow = STARTED, **changes: Any) -> Any:
    facts: dict[str, Any] = {
        "digest": "sha256:a",
        "owner_lives": False,
        "untouched": False,
        "may_repeat": False,
        "refused": None,
    }
    return decide_repeat(row, **(facts | changes))


def test_what_ended_is_said_again() -> None:
    assert decide(ENDED) == Republish(ENDED)
    assert decide(ENDED, may_repeat=True, refused="a stop") == Republish(ENDED)


def test_what_another_executor_has_in_hand_is_left_to_it() -> None:
    assert decide(owner_lives=True, may_repeat=True) == Later()
    assert decide(replace(STARTED, state="authorised")) == Later()


def test_an_interrupted_call_of_a_repeatable_tool_is_made_again_under_the_next_fence() -> None:
    assert decide(may_repeat=True) == Resume(4, "exe_1")


def test_any_other_interrupted_call_is_never_made_again() -> None:
    assert decide() == GiveUp(4, "exe_1", "the tool may not be called twice")


def test_an_interrupted_call_is_not_made_again_under_a_stop_nor_called_refused() -> None:
    assert decide(may_repeat=True, refused="stopped") == GiveUp(4, "exe_1", "it may not be tried again: stopped")


def test_a_claim_that_this_process_never_called_under_is_taken_up() -> None:
    assert decide(untouched=True) == Untouched(4, "exe_1")


def test_another_action_under_the_same_request_id_runs_nothing() -> None:
    for row in (STARTED, ENDED):
        assert decide(row, digest="sha256:b", may_repeat=True, untouched=True) == AnotherAction()


@given(
    state=st.sampled_from(["authorised", "started", "succeeded", "failed", "unknown", "refused"]),
    digest=st.sampled_from(["sha256:a", "sha256:b"]),
    owner_lives=st.booleans(),
    may_repeat=st.booleans(),
    refused=st.none() | st.just("a stop"),
)
def test_nothing_but_an_interrupted_repeatable_call_is_made_again(
    state: Any, digest: str, owner_lives: bool, may_repeat: bool, refused: str | None
) -> None:
    row = replace(STARTED, state=state, event=None if state in ("authorised", "started") else b"{}")
    decided = decide(row, digest=digest, owner_lives=owner_lives, may_repeat=may_repeat, refused=refused)
    if isinstance(decided, Resume):
        assert (state, digest, owner_lives, may_repeat, refused) == ("started", "sha256:a", False, True, None)
        assert decided.fence == row.fence + 1


@pytest.mark.parametrize("changes", [{}, {"may_repeat": True}, {"untouched": True}])
def test_whoever_takes_over_moves_the_fence(changes: dict[str, Any]) -> None:
    assert decide(**changes).fence == STARTED.fence + 1
