"""The digest of an action: pinned, computed a second time by other means, and bound to exactly its parts."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from countersign_contracts.actions import Action
from countersign_contracts.canonical import action_digest, canonical
from countersign_contracts.errors import Malformed

Parts = dict[str, Any]

PLAIN: Parts = {
    "agent": "support-1",
    "principal_chain": [],
    "session": None,
    "env": "dev",
    "tool": "list_tickets",
    "tool_version": 1,
    "args": {},
}
#: Computed with another implementation in another language.
GOLDEN: dict[str, tuple[Parts, str]] = {
    "nothing optional": (PLAIN, "f4f05aed266c6318153070481a7d32f03869feb351f08f3efb3a82bc949e6d8a"),
    "for a person, with text to escape": (
        {
            **PLAIN,
            "principal_chain": ["person:alice@example.com", "agent:planner"],
            "session": "run-2026.01:a",
            "env": "prod",
            "tool": "update_ticket",
            "tool_version": 3,
            "args": {"ticket_id": 7, "status": "closed", "note": "Zoë — “done”\n\u0001\u007f\\/"},
        },
        "3fb6388b9b312a9736fe81df0a122b6a76cc807e389dd77178991ce12a783881",
    ),
    "names to sort by UTF-16, and numbers of every form": (
        {
            **PLAIN,
            "agent": "a",
            "principal_chain": ["system:cron"],
            "env": "staging",
            "tool": "t",
            "tool_version": 0,
            "args": {
                "\u20ac": 1,
                "\r": 2,
                "\ufb33": 3,
                "1": 4,
                "\U0001f600": 5,
                "\u0080": 6,
                "\u00f6": 7,
                "amounts": [0.1, 1e21, 1e-7, -0.0, 100.0, 4.5, 333333333.33333329, 2**53 - 1, 1 - 2**53],
                "deep": [{"b": [None, True, False, {}], "a": []}],
            },
        },
        "638805d72d8253c390785bf97c82286294f94fcb7f46dd539948e3d7e3024c79",
    ),
}

# RFC 8785, appendix B: the bits of a double, and how it is written
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


def second_digest(parts: Parts) -> str:
    """The digest as the design states it, with nothing of ours: RFC 8785 by hand, SHA-256."""
    form = {name: parts[name] for name in ("agent", "args", "env", "principal_chain", "session")}
    form["tool"] = {"name": parts["tool"], "version": parts["tool_version"]}
    return "sha256:" + hashlib.sha256(jcs(form).encode()).hexdigest()


def jcs(value: Any) -> str:
    match value:
        case dict():
            names = sorted(value, key=lambda name: name.encode("utf-16-be"))
            return "{" + ",".join(f"{jcs(name)}:{jcs(value[name])}" for name in names) + "}"
        case list() | tuple():
            return "[" + ",".join(map(jcs, value)) + "]"
        case float():
            return number(value)
        case _:
            return json.dumps(value, ensure_ascii=False)


def number(value: float) -> str:
    """ECMAScript's Number::toString (ECMA-262, 6.1.6.1.20)."""
    if value == 0:
        return "0"
    sign, figures, _ = Decimal(repr(value)).as_tuple()
    digits = "".join(map(str, figures)).rstrip("0")
    point = Decimal(repr(value)).adjusted() + 1  # digits before the decimal point
    if len(digits) <= point <= 21:
        text = digits + "0" * (point - len(digits))
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
        text = f"{mantissa}e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return ("-" if sign else "") + text


text = st.text(st.characters(codec="utf-8"), max_size=8)
numbers = st.integers(1 - 2**53, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
parts = st.fixed_dictionaries(
    {
        "agent": st.sampled_from(["a", "b", "support-1"]),
        "principal_chain": st.lists(st.sampled_from(["person:x", "person:y", "system:x"]), max_size=2),
        "session": st.none() | st.sampled_from(["s", "t", "null"]),
        "env": st.sampled_from(["dev", "prod"]),
        "tool": st.sampled_from(["t", "u"]),
        "tool_version": st.integers(0, 2),
        "args": st.dictionaries(text, json_values, max_size=3),
    }
)


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON value: 1 is 1.0, and neither is true."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize(("said", "digest"), GOLDEN.values(), ids=GOLDEN.keys())
def test_the_digest_is_pinned(said: Parts, digest: str) -> None:
    assert action_digest(**said) == second_digest(said) == f"sha256:{digest}"


@pytest.mark.parametrize(("bits", "written"), NUMBERS.items())
def test_numbers_are_written_as_the_standard_shows(bits: str, written: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(value).decode() == written == number(value)


@given(parts)
def test_a_second_implementation_computes_the_same_digest(said: Parts) -> None:
    assert action_digest(**said) == second_digest(said)


@given(parts, parts)
def test_two_digests_are_equal_exactly_if_all_parts_are(one: Parts, other: Parts) -> None:
    assert (action_digest(**one) == action_digest(**other)) is same(one, other)


@given(parts, st.sampled_from(sorted(PLAIN)), st.data())
def test_another_value_of_any_one_part_gives_another_digest(said: Parts, part: str, data: st.DataObject) -> None:
    changed = {**said, part: data.draw(parts)[part]}
    assume(not same(said, changed))
    assert action_digest(**changed) != action_digest(**said)


@given(parts)
def test_the_order_in_which_arguments_are_given_does_not_matter(said: Parts) -> None:
    turned = {**said, "args": dict(reversed(said["args"].items()))}
    assert action_digest(**turned) == action_digest(**said)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"principal_chain": ["person:a", "person:b"]}, {"principal_chain": ["person:a,person:b"]}),
        ({"principal_chain": ["person:a", "person:b"]}, {"principal_chain": ["person:b", "person:a"]}),
        ({"session": None}, {"session": "null"}),
        ({"args": {"n": 1}}, {"args": {"n": "1"}}),
        ({"args": {"n": 1}}, {"args": {"n": True}}),
        ({"args": {"n": None}}, {"args": {}}),
        ({"tool": "t", "tool_version": 11}, {"tool": "t1", "tool_version": 1}),
    ],
)
def test_what_only_looks_alike_has_another_digest(one: Parts, other: Parts) -> None:
    assert action_digest(**PLAIN | one) != action_digest(**PLAIN | other)


def test_an_action_computes_the_digest_of_what_it_says(action: Action) -> None:
    assert action.computed_digest() == action.digest


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("agent_id", "support-2"),
        ("principal_chain", ()),
        ("session_id", None),
        ("env", "dev"),
        ("tool", "update_ticket2"),
        ("tool_version", 4),
        ("args", {"ticket_id": 8, "status": "closed"}),
    ],
)
def test_an_altered_action_no_longer_has_its_digest(action: Action, field: str, value: Any) -> None:
    assert action.model_copy(update={field: value}).computed_digest() != action.digest


@pytest.mark.parametrize("field", ["request_id", "reason", "requested_at"])
def test_the_digest_is_of_what_is_done_and_not_of_the_asking(action: Action, field: str) -> None:
    assert action.model_copy(update={field: None}).computed_digest() == action.digest


@pytest.mark.parametrize(
    "value",
    [2**53, -(2**53), math.nan, math.inf, "\ud800", {"\udc00": 1}, {1: 2}, object(), b"bytes"],
    ids=lambda value: f"{type(value).__name__}-{value}" if isinstance(value, int | float) else type(value).__name__,
)
def test_what_has_no_canonical_form_is_refused_whole(value: Any) -> None:
    with pytest.raises(Malformed, match="no canonical JSON form"):
        action_digest(**PLAIN | {"args": {"value": [value]}})


def test_what_nests_without_end_is_refused() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(Malformed):
        canonical(value)
