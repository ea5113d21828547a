from __future__ import annotations

import unicodedata
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from countersign_ledger.text import forbidden_character, parse_instant, shown


def test_exactly_control_characters_and_surrogates_are_forbidden() -> None:
    for code in range(0x110000):
        character = chr(code)
        if (forbidden_character(character) is not None) != (unicodedata.category(character) in ("Cc", "Cs")):
            raise AssertionError(f"U+{code:04X}")


fractions = st.text("0123456789", max_size=9)


@given(seconds=st.tuples(st.integers(0, 59), st.integers(0, 59)), digits=st.tuples(fractions, fractions))
def test_instants_compare_as_numbers_do(seconds: tuple[int, int], digits: tuple[str, str]) -> None:
    def text(second: int, fraction: str) -> str:
        return f"2026-01-31T09:30:{second:02}" + (f".{fraction}" if fraction else "") + "Z"

    def number(second: int, fraction: str) -> Fraction:
        return second + Fraction(int(fraction or 0), 10 ** len(fraction))

    a, b = zip(seconds, digits, strict=True)
    assert (parse_instant(text(*a)) < parse_instant(text(*b))) == (number(*a) < number(*b))
    assert (parse_instant(text(*a)) == parse_instant(text(*b))) == (number(*a) == number(*b))


@given(st.text())
def test_shown_text_is_one_bounded_line(text: str) -> None:
    assert "\n" not in shown(text)
    assert len(shown(text * 100)) < 1000
