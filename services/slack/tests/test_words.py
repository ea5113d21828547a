"""Text of others never becomes markup, never mentions, never hides, and what is shown as exact is exact."""

from __future__ import annotations

import html
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_contracts.plain_text import printable
from countersign_slack.words import code, cut_json, escape, exact_json, pieces, plain

HOSTILE = [
    ("<!channel>", "`&lt;!channel&gt;`"),
    ("<@U0ALICE> & <https://x|y>", "`&lt;@U0ALICE&gt; &amp; &lt;https://x|y&gt;`"),
    ("a`b", "`a\u02cbb`"),
    ("a\nRisk: low", "`a\\nRisk: low`"),
    ("‮evil", "`\\u202eevil`"),
    ("zero​width﻿", "`zero\\u200bwidth\\ufeff`"),
    ("a\x00\x1b[31mb", "`a\\x00\\x1b[31mb`"),
    ("ㅤ⠀͏", "`\\u3164\\u2800\\u034f`"),
    ("\U000e0041", "`\\U000e0041`"),
    ("\ud800", "`\\ud800`"),
    ("", "` `"),
    ("e" + "\u0301" * 4, "`e\u0301\u0301\\u0301\\u0301`"),
    ("*bold* _it_ ~no~ > quote", "`*bold* _it_ ~no~ &gt; quote`"),
]


@pytest.mark.parametrize(("text", "shown"), HOSTILE, ids=lambda text: ascii(text)[:20])
def test_hostile_text_is_shown_as_its_escapes_on_one_line(text: str, shown: str) -> None:
    assert code(text) == shown


def test_a_long_text_is_cut_with_a_word_on_how_long_it_is() -> None:
    assert code("x" * 100_000, 10) == "`xxxxxxxxxx… (100,000 characters)`"
    assert code("<" * 100, 10) == "`&lt;&lt;… (100 characters)`"
    assert cut_json({"a": "y" * 100}, 12) == '{"a": "yyyyy… (109 characters)'


@given(st.text(max_size=400), st.integers(1, 300))
def test_inline_code_stays_inline_code_within_its_limit(text: str, limit: int) -> None:
    shown = code(text, limit)
    inner = shown[1:-1]
    assert "`" not in inner and "\n" not in inner and "<" not in inner and ">" not in inner
    assert printable(inner) == inner
    assert len(shown) <= limit + 2 + len("… (400 characters)")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, st.integers(20, 400))
def test_exact_arguments_are_json_for_exactly_the_value_and_nothing_in_them_hides(value: object, limit: int) -> None:
    units = exact_json(value)
    shown = "".join(units)
    assert "`" not in shown and not re.search("[<>]", shown) and printable(shown) == shown
    assert json.loads(html.unescape(shown)) == value
    parts = pieces(units, limit)
    assert all(len(part) <= limit for part in parts)
    # put together again they are the same; only line feeds between parts are left out
    assert "".join(parts).replace("\n", "") == shown.replace("\n", "")


def test_pieces_break_between_lines_where_there_are_some_and_never_inside_an_entity() -> None:
    assert pieces(list("ab\ncd\nef"), 6) == ["ab\ncd", "ef"]
    assert pieces(["&amp;"] * 5, 12) == ["&amp;&amp;", "&amp;&amp;", "&amp;"]


def test_our_own_words_keep_their_code_and_others_in_them_mention_nobody() -> None:
    assert plain("stage `owner` asks <!channel>\u202e\n") == "stage `owner` asks &lt;!channel&gt;\\u202e\\n"


def test_escaping_makes_entities_of_slack_s_three_characters_alone() -> None:
    assert escape("a<b>&'\"") == "a&lt;b&gt;&amp;'\""
