"""A sealed argument opens for its action, its tool and its place; everything else is refused without being shown."""

from __future__ import annotations

from typing import Any

import pytest

from countersign_chassis.sealing import OpenKey, OpenKeys, SealKey, new_key
from countersign_contracts.actions import Action, Amendment, amended
from countersign_contracts.catalogue import ToolRecord
from countersign_contracts.ids import new_id
from countersign_contracts.model import now
from countersign_contracts.sealed import Place, box_text, sealed, withheld
from countersign_executor.admission import RefusedAction
from countersign_executor.opening import Opening, require_opened
from countersign_executor.request import HttpRequest

from .conftest import action, tool

OLD, NEW = OpenKey(new_key()), OpenKey(new_key())
ARGUMENTS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["item"],
    "properties": {
        "item": {"type": "string"},
        "note": {"type": "string", "maxLength": 12, "x-sensitive": True},
        "card": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"name": {"type": "string"}, "number": {"type": ["string", "object"], "x-sensitive": True}},
        },
    },
}
MARKED = ToolRecord(tool=tool(arguments=ARGUMENTS, http={"query": [], "body": ["note", "card"]}), version=2, revision=2)


@pytest.fixture
def opening() -> Opening:
    return Opening(OpenKeys([NEW, OLD]))


def asked(key: OpenKey = NEW, **values: Any) -> Action:
    """An action whose `note` and `card.number` are sealed as the gateway would; other values stand as they are."""
    bare = action(args={})

    def at(path: str, value: Any) -> Any:
        place = Place(bare.request_id, bare.agent_id, bare.tool, path)
        return sealed(SealKey(key.public).seal(box_text(value, place)), bytes(32))

    args = {"item": "7", **{k: at("/note", v) if k == "note" else v for k, v in values.items() if k != "number"}}
    if "number" in values:
        args["card"] = {"name": "Ada", "number": at("/card/number", values["number"])}
    return bare.model_copy(update={"args": args})


def refused(opening: Opening, of: Action, record: ToolRecord = MARKED) -> str:
    with pytest.raises(RefusedAction) as caught:
        opening.open(of, record)
    (reason,) = caught.value.reasons
    assert "hunter2" not in str(reason)
    return f"{reason.code}: {reason.message}"


def test_of_a_tool_without_marks_the_arguments_are_passed_on_as_they_are(opening: Opening) -> None:
    plain = action()
    opened = opening.open(plain, ToolRecord(tool=tool(), version=1, revision=1))
    assert opened.args is plain.args and opened.texts is None


@pytest.mark.parametrize("key", [NEW, OLD])
def test_what_any_of_the_keys_was_for_is_opened_and_its_texts_told_for_masking(opening: Opening, key: OpenKey) -> None:
    opened = opening.open(asked(key, note="hunter2", number={"digits": ["4111", "hunter2"]}), MARKED)
    assert opened.args == {
        "item": "7",
        "note": "hunter2",
        "card": {"name": "Ada", "number": {"digits": ["4111", "hunter2"]}},
    }
    assert opened.texts == ("hunter2", "4111") and "hunter2" not in repr(opened)


def test_a_key_that_was_taken_away_opens_nothing(opening: Opening) -> None:
    of = asked(OpenKey(new_key()), note="hunter2")
    assert refused(opening, of) == "sealed: `/note` cannot be opened: the box was altered, or sealed for another key"


@pytest.mark.parametrize("changed", ["request_id", "agent_id", "tool"])
def test_a_box_from_another_action_does_not_open(opening: Opening, changed: str) -> None:
    of = asked(note="hunter2").model_copy(update={changed: action().request_id if changed == "request_id" else "other"})
    assert refused(opening, of) == f"sealed: `/note` cannot be opened: it was sealed for another {changed}"


def test_what_an_approver_left_as_it_was_opens_for_the_action_it_was_asked_with(opening: Opening) -> None:
    first = asked(note="hunter2")
    changes: list[dict[str, Any]] = [{**first.args, "item": item} for item in ("8", "9")]
    second = amended(first, amendment(first, changes[0]), now())
    third = amended(second, amendment(second, changes[1]), now())
    assert second.amends == first.request_id and third.amends == second.request_id
    for each in (second, third):
        assert opening.open(each, MARKED).args["note"] == "hunter2"
    moved = third.model_copy(update={"sealed_for": None})
    assert refused(opening, moved) == "sealed: `/note` cannot be opened: it was sealed for another request_id"


def amendment(of: Action, args: dict[str, Any]) -> Amendment:
    return Amendment(
        request_id=new_id(), args=args, digest=of.model_copy(update={"args": args}).computed_digest(), by="bob"
    )


def test_a_box_in_another_place_does_not_open(opening: Opening) -> None:
    of = asked(note="hunter2")
    moved = of.model_copy(update={"args": {"item": "7", "card": {"number": of.args["note"]}}})
    assert refused(opening, moved) == "sealed: `/card/number` cannot be opened: it was sealed for another path"


@pytest.mark.parametrize("value", ["hunter2", None, withheld(), {"$sealed": "hunter2"}])
def test_a_sensitive_value_that_did_not_come_sealed_is_refused(opening: Opening, value: Any) -> None:
    of = action(args={"item": "7", "card": {"number": value}})
    assert refused(opening, of) == "sealed: `/card/number` is sensitive and did not come sealed"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"note": "hunter2hunter2"}, "`/note` does not fit the tool's schema (maxLength)"),
        ({"note": {"hunter2": 1}}, "`/note` does not fit the tool's schema (type)"),
        ({"number": 5}, "`/card/number` does not fit the tool's schema (type)"),
        ({"note": "hunter2", "item": 7}, "`/item` does not fit the tool's schema (type)"),
    ],
)
def test_a_value_that_does_not_fit_is_told_by_its_place(opening: Opening, values: Any, message: str) -> None:
    assert refused(opening, asked(**values)) == f"invalid_arguments: {message}"


def test_marks_that_do_not_hold_open_nothing(opening: Opening) -> None:
    stray = tool(arguments=ARGUMENTS | {"$defs": {"x": {"x-sensitive": True}}})
    record = ToolRecord(tool=stray, version=3, revision=3)
    assert refused(opening, asked(note="hunter2"), record).startswith("sealed: `change_item` marks")


def test_nothing_is_sent_that_was_not_opened() -> None:
    require_opened(HttpRequest("POST", "https://x.example/", b'{"note":"\\"$sealed\\":"}'))
    with pytest.raises(RefusedAction):
        require_opened(HttpRequest("POST", "https://x.example/", b'{"note":{"$sealed":null}}'))


def test_of_thousands_of_misfits_the_first_is_told_and_a_schema_that_never_ends_is_not_asked(opening: Opening) -> None:
    def marked(**more: Any) -> ToolRecord:
        properties: dict[str, Any] = {"note": {"type": "string", "x-sensitive": True}, **more}
        arguments = {"type": "object", "additionalProperties": False, "properties": properties}
        spec = tool(arguments=arguments, http={"query": [], "body": ["note"]}, resource="things")
        return ToolRecord(tool=spec, version=1, revision=1)

    numbers = {"type": "array", "items": {"type": "integer"}}
    few = refused(Opening(OpenKeys([NEW])), asked(many=["x"] * 3), marked(item={}, many=numbers))
    assert few.count("`/many` does not fit the tool's schema (type)") == 1
    assert refused(opening, asked(many=["x"] * 9000), marked(item={}, many=numbers)) == few
    endless = {"not": {"$ref": "#/properties/many"}}
    assert "cannot be used: it refers to itself" in refused(
        Opening(OpenKeys([NEW])), asked(note="hunter2"), marked(item={}, many=endless)
    )
