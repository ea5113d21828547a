"""An action that an approver changed: the agent's call and its wait go on with the one that takes its place."""

from __future__ import annotations

from typing import Any

import pytest

from countersign_contracts.actions import ActionPage, ActionRef, ActionResult
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import new_id
from countersign_contracts.model import now
from countersign_sdk import Agent, progress_of
from countersign_sdk.transport import Hears

FIRST, SECOND, THIRD = new_id(), new_id(), new_id()
PROGRESS: dict[str, Any] = {
    "approval_id": "apr_1",
    "said": "requested",
    "waits_for": ["2 of group:security"],
    "deadline": "2030-01-01T00:00:00Z",
    "voters": [],
}


def result(request_id: str, state: Any, **more: Any) -> ActionResult:
    ref = ActionRef(
        request_id=request_id, agent_id="a", env="prod", tool="t", tool_version=1, digest="sha256:" + "0" * 64
    )
    return ActionResult.of(ref, state, now(), **more)


CHANGED = result(FIRST, "denied", superseded_by=SECOND)


class Says:
    """A transport that has an answer for each look, by request id; the last one stays."""

    def __init__(self, answers: dict[str, list[ActionResult | CountersignError]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def call(self, body: dict[str, Any], wait_s: float) -> ActionResult:
        return await self.get(body["request_id"], wait_s)

    async def get(self, request_id: str, wait_s: float, hears: Hears | None = None) -> ActionResult:
        self.asked.append(request_id)
        said = self.answers[request_id]
        answer = said.pop(0) if len(said) > 1 else said[0]
        if isinstance(answer, CountersignError):
            raise answer
        if hears is not None:
            hears(answer)
        return answer

    async def page(self, wanted: dict[str, Any]) -> ActionPage:
        raise NotImplementedError

    async def submit(self, body: dict[str, Any], timeout_s: float, *, queued: bool) -> ActionResult:
        raise NotImplementedError

    async def cancel(self, request_id: str, reason: str | None) -> ActionResult:
        raise NotImplementedError

    async def heartbeat(self, body: dict[str, Any]) -> None:
        raise NotImplementedError

    async def tell(self, verb: str, body: bytes) -> None:
        raise NotImplementedError


def says(first: Any, second: Any = (), third: Any = ()) -> Says:
    return Says({FIRST: list(first), SECOND: list(second), THIRD: list(third)})


NOT_YET = CountersignError("there is no action", code="not_found")


async def ask(transport: Says, *, wait_s: float = 5, follow: bool = True) -> ActionResult:
    return await Agent(transport).call("t", {}, env="prod", request_id=FIRST, wait_s=wait_s, follow=follow)


async def test_a_call_answers_with_what_was_really_executed() -> None:
    held = result(SECOND, "held")
    transport = says([CHANGED], [NOT_YET, held, result(SECOND, "succeeded", result={"ok": True})])
    outcome = await ask(transport)
    assert (outcome.request_id, outcome.state, outcome.result) == (SECOND, "succeeded", {"ok": True})


async def test_what_was_changed_twice_is_followed_twice() -> None:
    transport = says([CHANGED], [result(SECOND, "denied", superseded_by=THIRD)], [result(THIRD, "succeeded")])
    assert (await ask(transport)).request_id == THIRD
    assert (await Agent(transport).wait(FIRST, 5)).request_id == THIRD


async def test_who_does_not_want_to_follow_gets_the_first_and_where_to_look() -> None:
    transport = says([CHANGED])
    outcome = await ask(transport, follow=False)
    assert (outcome.request_id, outcome.state, outcome.superseded_by) == (FIRST, "denied", SECOND)
    assert (await Agent(transport).wait(FIRST, 5, follow=False)).superseded_by == SECOND
    assert SECOND not in transport.asked


async def test_a_call_whose_time_is_up_answers_with_the_successor_s_state_so_far() -> None:
    outcome = await ask(says([CHANGED], [result(SECOND, "held")]), wait_s=0)
    assert (outcome.request_id, outcome.state) == (SECOND, "held")


async def test_a_successor_that_is_never_known_leaves_the_first_answer() -> None:
    assert (await ask(says([CHANGED], [NOT_YET]), wait_s=0.2)).request_id == FIRST


async def test_each_change_is_told_once_with_whom_it_waits_for() -> None:
    held, voted = result(FIRST, "held"), {**PROGRESS, "said": "voted", "voters": ["alice"]}
    transport = says(
        [
            held,
            held,
            result(FIRST, "held", approval=PROGRESS),
            result(FIRST, "held", approval=PROGRESS),
            result(FIRST, "held", approval=voted),
            result(FIRST, "succeeded"),
        ]
    )
    heard: list[ActionResult] = []
    assert (await Agent(transport).wait(FIRST, 5, on_change=heard.append)).state == "succeeded"
    told = [(each.state, progress.said if (progress := progress_of(each)) else None) for each in heard]
    assert told == [("held", None), ("held", "requested"), ("held", "voted"), ("succeeded", None)]
    last = progress_of(heard[2])
    assert last is not None and last.voters == ("alice",) and last.waits_for == ("2 of group:security",)


@pytest.mark.parametrize("approval", [None, {}, {"something": "newer"}])
def test_no_progress_is_made_up(approval: Any) -> None:
    assert progress_of(result(FIRST, "held", approval=approval)) is None
