"""Sensitive arguments do not come back, whatever the business system does with them that is commonly done."""

from __future__ import annotations

import json
import time
from base64 import b64encode, urlsafe_b64encode
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_executor.answer import Body
from countersign_executor.masking import MASK, MAX_TEXTS, MAX_TOTAL, Masking, texts_of
from countersign_executor.secrets import Secrets

VALUE = 'hünter/2+"x'
LONG = Masking(Secrets({"TOKEN": "a-connector-secret"}), [VALUE, "4111111111111111"])
SHORT = Masking(Secrets(), ["12", "ab-c"])


@pytest.mark.parametrize(
    "echo",
    [
        VALUE,
        f"x{VALUE}{VALUE}y",
        json.dumps({"got": VALUE}),
        json.dumps({"got": VALUE}, ensure_ascii=False).replace("/", "\\/"),
        quote(VALUE),
        quote(VALUE, safe=""),
        quote_plus(VALUE),
        b64encode(VALUE.encode()).decode(),
        urlsafe_b64encode(VALUE.encode()).decode(),
    ],
)
def test_an_echo_is_masked_in_every_common_form(echo: str) -> None:
    masked = LONG.redact(echo)
    assert MASK in masked and "nter" not in masked and "\\u00fc" not in masked


def test_json_values_are_masked_through_and_through_and_secrets_with_them() -> None:
    value = {"a": [VALUE, {f"k {VALUE}": 4111111111111111}], "b": True, "c": "a-connector-secret", "n": None, "f": 1.5}
    assert LONG.redact_value(value) == {"a": [MASK, {f"k {MASK}": MASK}], "b": True, "c": "***", "n": None, "f": 1.5}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("12", MASK),
        ("pin 12.", f"pin {MASK}."),
        ("pin_12", f"pin_{MASK}"),
        ("3125", "3125"),
        ("x12", "x12"),
        ("(ab-c)", f"({MASK})"),
        ("tab-case", "tab-case"),
    ],
)
def test_short_values_are_masked_where_they_stand_alone(text: str, masked: str) -> None:
    assert SHORT.redact(text) == masked
    assert SHORT.redact_value([12, 3125, True]) == [MASK, 3125, True]


@given(value=st.text(min_size=6, max_size=40), before=st.text(), after=st.text())
def test_no_value_survives(value: str, before: str, after: str) -> None:
    assert value not in Masking(Secrets(), [value]).redact(before + value + after).replace(MASK, "")


@given(one=st.text(min_size=6, max_size=20), two=st.text(min_size=6, max_size=20))
def test_a_value_inside_another_leaves_no_rest(one: str, two: str) -> None:
    assert two not in Masking(Secrets(), [one, one + two]).redact(one + two).replace(MASK, "")


@given(value=st.text("abc", min_size=2, max_size=12), text=st.text("abc"), cut=st.integers(1, 11))
def test_a_cut_does_not_leave_the_beginning_of_a_value(value: str, text: str, cut: int) -> None:
    kept = Masking(Secrets(), [value]).drop_partial(text + value[: min(cut, len(value) - 1)])
    assert text.startswith(kept)


def test_of_too_many_or_too_long_values_no_answer_is_kept() -> None:
    for texts in ([str(n) * 6 for n in range(MAX_TEXTS + 1)], ["x" * (MAX_TOTAL + 1)]):
        assert Masking(Secrets(), texts).redact("anything") == MASK
        assert Masking(Secrets(), texts).redact_value({"any": "thing"}) == MASK


def test_hostile_values_do_not_keep_the_executor_busy() -> None:
    masking = Masking(Secrets(), ["a" * (MAX_TOTAL // 2) + "b", "a" * (MAX_TOTAL // 4)])
    began = time.process_time()
    masking.drop_partial(masking.redact("a" * 262_144))
    assert time.process_time() - began < 2


def test_no_hash_of_an_answer_is_kept_by_which_a_value_could_be_guessed() -> None:
    for masking, kept in ((SHORT, False), (Secrets(), True)):
        body = Body(100)
        body.feed(b'{"pin": "12"}')
        answer = body.answer(200, "application/json", masking, whole=True)
        assert (answer.sha256 is not None) is kept and (answer.result == {"pin": MASK}) is not kept


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("x", ["x"]),
        ({"a": ["b", 1, 2.5, True, None, " "], "c": {"d": "e"}}, ["b", "1", "2.5", "e"]),
        ([], []),
    ],
)
def test_looked_for_are_texts_and_numbers(value: Any, texts: list[str]) -> None:
    assert list(texts_of(value)) == texts
