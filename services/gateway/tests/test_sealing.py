"""What the gateway lets travel in the clear: what the tool declares and does not mark, and nothing else."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import orjson
import pytest

from countersign_chassis.sealing import DigestKey, OpenKey, SealKey
from countersign_contracts.catalogue import Tool, ToolRecord
from countersign_contracts.errors import CountersignError, Malformed
from countersign_contracts.sealed import box_of, withheld
from countersign_gateway.sealing import Sealing

PRIVATE = OpenKey(bytes(range(32)))
MARKS = bytes(32)
PLACE: dict[str, Any] = {"request_id": "01a1fc36-1925-73c1-a432-74efefece349", "agent_id": "bot", "tool": "pay"}


def record(properties: dict[str, Any], version: int = 1) -> ToolRecord:
    tool = {
        "name": "pay",
        "effect": "write",
        "arguments": {"type": "object", "additionalProperties": False, "properties": properties},
        "http": {"method": "POST", "url": "https://x.example/", "body": list(properties)},
    }
    return ToolRecord(tool=Tool.model_validate(tool), version=version, revision=version)


PIN = {"type": "string", "x-sensitive": True}
PLAIN = record({"to": {"type": "string"}, "pin": {"type": "string"}})
MARKED = record(
    {
        "to": {"type": "string"},
        "pin": PIN,
        "card": {"type": "object", "additionalProperties": False, "properties": {"name": {}, "number": PIN}},
    },
    version=2,
)


@pytest.fixture
def sealing() -> Sealing:
    return Sealing(SealKey(PRIVATE.public), DigestKey(MARKS))


def test_without_marks_the_arguments_are_passed_on_as_they_are(sealing: Sealing) -> None:
    args = {"to": "x", "pin": "1234"}
    assert sealing.travelling(args, PLAIN, **PLACE) is args


def test_what_is_marked_is_sealed_for_this_action_and_argument(sealing: Sealing) -> None:
    args = {"to": "x", "pin": "1234", "card": {"name": "Ada", "number": "4111"}}
    sent = sealing.travelling(args, MARKED, **PLACE)
    assert (sent["to"], sent["card"]["name"]) == ("x", "Ada") and b"1234" not in orjson.dumps(sent)
    box = box_of(sent["card"]["number"])
    assert box is not None
    assert orjson.loads(PRIVATE.open(box)) == PLACE | {"path": "/card/number", "value": "4111"}
    assert args["pin"] == "1234", "what was submitted stays as it is"


def test_equal_values_have_equal_marks_that_nobody_without_the_key_can_make(sealing: Sealing) -> None:
    one = sealing.travelling({"pin": "1234"}, MARKED, **PLACE)["pin"]
    two = sealing.travelling({"pin": "1234"}, MARKED, **(PLACE | {"agent_id": "other"}))["pin"]
    assert one["mark"] == two["mark"] and one["$sealed"] != two["$sealed"]
    text = b'{"path":"/pin","tool":"pay","value":"1234"}'
    assert one["mark"] == "hmac-sha256:" + hmac.new(MARKS, b"mark\n" + text, hashlib.sha256).hexdigest()
    assert sealing.travelling({"pin": "1235"}, MARKED, **PLACE)["pin"]["mark"] != one["mark"]


@pytest.mark.parametrize("tool", [None, PLAIN, MARKED])
def test_of_what_is_not_declared_only_the_name_travels(sealing: Sealing, tool: ToolRecord | None) -> None:
    assert sealing.travelling({"pim": "1234"}, tool, **PLACE) == {"pim": withheld()}


@pytest.mark.parametrize("card", ["4111", ["4111"], None])
def test_where_an_object_with_marks_should_stand_nothing_else_travels(sealing: Sealing, card: Any) -> None:
    assert sealing.travelling({"card": card}, MARKED, **PLACE) == {"card": withheld()}


def test_marks_are_those_of_the_tools_version(sealing: Sealing) -> None:
    assert sealing.travelling({"pin": "1234"}, PLAIN, **PLACE) == {"pin": "1234"}
    assert box_of(sealing.travelling({"pin": "1234"}, MARKED, **PLACE)["pin"])
    assert sealing.travelling({"pin": "1234"}, PLAIN, **PLACE) == {"pin": "1234"}


def test_of_a_tool_with_marks_that_do_not_hold_nothing_travels(sealing: Sealing) -> None:
    assert sealing.travelling({"pin": "1"}, record({"pin": {"items": PIN}}, 3), **PLACE) == {"pin": withheld()}


@pytest.mark.parametrize("name", ["pin", "undeclared"])
def test_a_value_without_a_canonical_form_is_refused_without_it(sealing: Sealing, name: str) -> None:
    with pytest.raises(Malformed) as refused:
        sealing.travelling({name: {"1234": 2**60}}, MARKED, **PLACE)
    assert f"`/{name}`" in refused.value.detail and "1234" not in refused.value.detail


def test_what_was_queued_is_refused_where_something_in_it_is_sensitive(sealing: Sealing) -> None:
    for fine in ({"to": "x"}, {"card": {"name": "Ada"}}, {"card": "4111"}):
        sealing.require_unqueued(fine, MARKED)
    sealing.require_unqueued({"pin": "1234"}, PLAIN)
    sealing.require_unqueued({"pin": "1234"}, None)
    with pytest.raises(CountersignError) as refused:
        sealing.require_unqueued({"pin": "1234", "card": {"number": "4111"}}, MARKED)
    assert refused.value.code == "invalid" and refused.value.detail.startswith("`/pin`, `/card/number`: sensitive")
    assert "1234" not in refused.value.detail


def test_a_request_is_known_again_and_cannot_be_guessed(sealing: Sealing) -> None:
    assert sealing.request_digest(b"x") == hmac.new(MARKS, b"request\nx", hashlib.sha256).digest()
