"""The first API's words for today's states: pure."""

from __future__ import annotations

import pytest

from countersign_contracts.actions import ActionRef, ActionResult, Reason, State
from countersign_contracts.model import now
from countersign_gateway.http.first_control_layer import first_response

REF = ActionRef(
    request_id="01920000-0000-7000-8000-000000000000",
    agent_id="a",
    env="prod",
    tool="t",
    tool_version=1,
    digest="sha256:" + "0" * 64,
)


@pytest.mark.parametrize(
    ("state", "status", "words"),
    [
        ("succeeded", 200, ("executed", "allow")),
        ("failed", 500, ("error", "allow")),
        ("unknown", 500, ("error", "allow")),
        ("denied", 403, ("denied", "deny")),
        ("expired", 403, ("denied", "deny")),
        ("cancelled", 403, ("denied", "deny")),
        ("held", 500, ("error", "deny")),
    ],
)
def test_each_state_has_its_old_words(state: State, status: int, words: tuple[str, str]) -> None:
    result = ActionResult.of(REF, state, now(), reason="why", reasons=(Reason(code="c", message="why"),))
    code, body = first_response(result)
    assert code == status and (body.status, body.decision) == words
    assert body.request_id == REF.request_id and body.reason
