"""What a probe's answer says: one declared condition holds and the other does not, or it says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from countersign_contracts.catalogue import Document, Probe
from countersign_contracts.ids import new_id
from countersign_executor.answer import Answer
from countersign_executor.change import Catalogue, plan_change
from countersign_executor.probe import Found, judge, pause_s, probe_args
from countersign_executor.secrets import Secrets

SENT = {"status": 200, "path": "letter.sent", "equals": True}
READ = """
kind: tool
name: find_letter
effect: read
arguments:
  type: object
  additionalProperties: false
  required: [key]
  properties: {key: {type: string}}
http: {method: GET, url: "https://letters.example.com/sent/{key}", path: [key]}
"""
WRITE = """
kind: tool
name: send_letter
effect: write
arguments:
  type: object
  additionalProperties: false
  properties: {text: {type: string}}
http: {method: POST, url: "https://letters.example.com/letters", body: [text]}
probe:
  tool: find_letter
  args: {key: "{request_id}"}
  happened_when: {status: 200}
  not_happened_when: {status: 404}
"""


def probe(happened: dict[str, Any], did_not: dict[str, Any], **changes: Any) -> Probe:
    declared: dict[str, Any] = {"tool": "find_letter", "args": {"key": "{request_id}"}} | changes
    return Probe.model_validate(declared | {"happened_when": happened, "not_happened_when": did_not})


def answer(status: int, result: Any = None, *, truncated: bool = False) -> Answer:
    return Answer(status=status, result=result, truncated=truncated, sha256="0" * 64, size=1)


@pytest.mark.parametrize(
    ("happened", "did_not", "given", "outcome"),
    [
        (SENT, {"status": 404}, answer(200, {"letter": {"sent": True}}), "succeeded"),
        (SENT, {"status": 404}, answer(404, "no such letter"), "failed"),
        (SENT, {"status": 404}, answer(200, {"letter": {"sent": False}}), None),
        (SENT, {"status": 404}, answer(200, {"letter": {"sent": 1}}), None),
        (SENT, {"status": 404}, answer(200, {}), None),
        (SENT, {"status": 404}, answer(200, "not JSON"), None),
        (SENT, {"status": 404}, answer(200, {"letter": {"sent": True}}, truncated=True), None),
        (SENT, {"status": 404}, answer(201, {"letter": {"sent": True}}), None),
        (SENT, {"status": 404}, answer(500), None),
        ({"path": "n", "equals": 1}, {"path": "n", "equals": 0}, answer(206, {"n": 1}), "succeeded"),
        ({"path": "n", "equals": 1}, {"path": "n", "equals": 0}, answer(200, {"n": 0}), "failed"),
        ({"path": "n", "equals": 1}, {"path": "n", "equals": 0}, answer(500, {"n": 0}), None),
        ({"path": "n", "equals": 1}, {"path": "m", "equals": 1}, answer(200, {"n": 1, "m": 1}), None),
    ],
)
def test_an_answer_tells_only_where_one_condition_holds_and_the_other_does_not(
    happened: dict[str, Any], did_not: dict[str, Any], given: Answer, outcome: str | None
) -> None:
    said = judge(probe(happened, did_not), given)
    assert (said.outcome if isinstance(said, Found) else None) == outcome


def test_the_evidence_is_the_value_that_was_recognised() -> None:
    said = judge(probe(SENT, {"status": 404}), answer(200, {"letter": {"sent": True}, "secretive": 1}))
    assert said == Found("succeeded", "happened_when", "letter.sent", True)


def test_a_lookup_asks_for_the_request_id_and_nothing_else_of_the_action() -> None:
    id = new_id()
    declared = probe(SENT, {"status": 404}, args={"key": "{request_id}", "kind": "letter", "text": "of {request_id}"})
    assert probe_args(declared, id) == {"key": id, "kind": "letter", "text": f"of {id}"}


def test_pauses_double_up_to_the_longest() -> None:
    assert [pause_s(n, 10, 60) for n in (1, 2, 3, 4, 1000)] == [10, 20, 40, 60, 60]


def errors(write: str, read: str = READ) -> list[tuple[str, str]]:
    """What `apply` says of the two tools."""
    documents = [Document(path="tools.yaml", text=f"{read}---{write}")]
    return [
        (error.field or "", error.message) for error in plan_change(documents, Catalogue({}, 0), Secrets()).plan.errors
    ]


@pytest.mark.parametrize(
    ("old", "new", "field", "says"),
    [
        ("tool: find_letter", "tool: find_leter", "probe.tool", "there is no tool `find_leter`"),
        ("tool: find_letter", "tool: send_letter", "probe.tool", "a probe looks with a tool that only reads"),
        ("{key:", "{id:", "probe.args", "`find_letter` has no argument `id`"),
        ('{key: "{request_id}"}', "{}", "probe.args", "`find_letter` needs the argument `key`"),
        ('"{request_id}"', "all", "probe.args", "no argument says which call is meant"),
        ('"{request_id}"', '"{request_id} {text}"', "probe.args.key", "by its request id alone, not by `text`"),
        ("{status: 200}", "{path: sent}", "probe.happened_when.equals", "`path` needs what stands there"),
        ("{status: 200}", "{equals: 1}", "probe.happened_when.path", "`path` says where `equals` stands"),
        ("{status: 200}", "{}", "probe.happened_when", "it says nothing of the answer"),
        ("{status: 404}", "{status: 200}", "probe.not_happened_when", "the same as `happened_when`"),
        ("effect: write", "effect: read", "probe", "a tool that only reads has no unknown outcome"),
    ],
)
def test_a_probe_that_could_not_tell_is_refused(old: str, new: str, field: str, says: str) -> None:
    assert WRITE.count(old) == 1
    found = errors(WRITE.replace(old, new))
    assert any(where == field and says in message for where, message in found), found


def test_a_sound_probe_is_taken() -> None:
    assert errors(WRITE) == []
