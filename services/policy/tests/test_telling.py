"""What people are told of an action: the tool's templates, filled in and bounded."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from countersign_contracts.sealed import sealed, withheld
from countersign_policy.telling import MAX_TEXT, MAX_VALUE, told

MARK = bytes(range(32))


@pytest.mark.parametrize(
    ("template", "args", "text"),
    [
        ("", {"a": 1}, None),
        ("all", {}, "all"),
        ("Pay {amount} to {to}", {"amount": 5, "to": "{amount}"}, "Pay 5 to {amount}"),
        ("Pay {to}", {"to": {"iban": ["x"]}}, 'Pay {"iban":["x"]}'),
        ("Pay {to}", {}, "Pay (no to)"),
        ("Pay {to}", {"to": None}, "Pay null"),
        ("Pay {to}", {"to": withheld()}, "Pay [withheld] the tool declares no such argument"),
    ],
)
def test_templates_are_filled_in(template: str, args: dict[str, Any], text: str | None) -> None:
    assert told(template, args) == text


def test_a_sealed_value_is_shown_by_its_mark() -> None:
    text = told("Pay {to}", {"to": sealed("box" * 40, MARK)})
    assert text is not None and MARK.hex()[:8] in text and "box" not in text


def test_long_values_are_cut_and_stay_different() -> None:
    one, other = "x" * MAX_VALUE + "1", "x" * MAX_VALUE + "2"
    assert told("{a}", {"a": one[:-1]}) == one[:-1]
    assert told("{a}!", {"a": one}) == f"{one[:-1]}… (1001 characters, SHA-256 {sha256(one.encode()).hexdigest()})!"
    assert told("{a}", {"a": one}) != told("{a}", {"a": other})
    whole = told("{a}" * 170, {"a": "y" * 200_000})
    assert whole is not None and len(whole) < MAX_TEXT + 120
    assert whole != told("{a}" * 170, {"a": "y" * 200_001})
