"""Every error has a code that stays, and arrives at the other end of a command as it was raised."""

from __future__ import annotations

import json

import pytest

from countersign_contracts.command import Done, problem_bytes, read_reply, reply_bytes
from countersign_contracts.commands import Receipt
from countersign_contracts.errors import PROBLEMS, CountersignError, Malformed, Refused, Unavailable


@pytest.mark.parametrize("code", PROBLEMS)
def test_an_error_arrives_as_it_was_raised(code: str) -> None:
    raised = CountersignError("what is wrong", code=code, errors=[{"field": "a"}], retry_after_s=3)
    with pytest.raises(CountersignError) as arrived:
        read_reply(problem_bytes(raised), Done)
    assert (arrived.value.code, arrived.value.detail) == (code, "what is wrong")
    assert arrived.value.extra == {"errors": [{"field": "a"}], "retry_after_s": 3}
    assert arrived.value.status == PROBLEMS[code][0]


@pytest.mark.parametrize(
    ("kind", "code"), [(Malformed, "malformed"), (Refused, "forbidden"), (Unavailable, "unavailable")]
)
def test_a_problem_is_one_of_rfc_9457(kind: type[CountersignError], code: str) -> None:
    problem = kind("why").problem()
    assert problem["type"] == f"urn:countersign:problem:{code}"
    assert (problem["status"], problem["title"]) == PROBLEMS[code]
    assert problem["detail"] == "why"


@pytest.mark.parametrize("code", PROBLEMS)
def test_a_status_says_whose_fault_it_is(code: str) -> None:
    status, title = PROBLEMS[code]
    assert 400 <= status < 600
    assert title


@pytest.mark.parametrize("problem", [{}, {"type": "about:blank"}, {"type": "urn:countersign:problem:new"}])
def test_a_problem_of_a_newer_version_is_an_internal_one_here(problem: dict[str, str]) -> None:
    assert CountersignError.from_problem(problem).code == "internal"


def test_an_answer_arrives_as_it_was_given() -> None:
    receipt = Receipt(event_ids=("a.granted", "b.granted"), head=7)
    assert read_reply(reply_bytes(receipt), Receipt) == receipt
    assert json.loads(reply_bytes(Done())) == {"ok": {}}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"7", b"{}", b'{"ok":{}}', b'{"ok":7}', b'{"problem":7}'])
def test_what_is_no_answer_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_reply(body, Receipt)
