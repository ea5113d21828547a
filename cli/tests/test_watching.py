"""The watch without a terminal: keys from bytes, and what the board does with keys and news."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_cli.watching.board import Board, Cast, Load, Quit, Reload
from countersign_cli.watching.keys import Keys

DIGEST = "sha256:" + "0" * 64


# --- keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"a", ["a"]),
        (b"\x1b[A\x1b[B\x1bOA", ["up", "down", "up"]),
        (b"\x1b[5~\x1b[6~\x1b[H\x1b[F\x1b[1~\x1b[8~", ["pgup", "pgdn", "home", "end", "home", "end"]),
        (b"\r\n\x7f\x08", ["enter", "enter", "backspace", "backspace"]),
        (b"\x03", ["quit"]),
        ("é→".encode(), ["é", "→"]),
        (b"\x1ba", ["esc", "a"]),
        (b"\x1b\x1b[A", ["esc", "up"]),
        (b"\x1b[1;5Ab", ["b"]),  # with Ctrl held: means nothing, and leaves nothing behind
        (b"\x1b[200~x", ["x"]),
        (b"\x1b[" + b"9" * 40 + b"x", ["9"] * 26 + ["x"]),
        (b"\xff", ["\ufffd"]),
        (b"\x00\x01", []),
    ],
)
def test_keys_are_read_from_what_terminals_send(data: bytes, keys: list[str]) -> None:
    assert Keys().feed(data) == keys


def test_an_esc_alone_is_the_key_once_nothing_follows_and_a_split_sequence_is_one_key() -> None:
    keys = Keys()
    assert (keys.feed(b"\x1b"), keys.unfinished) == ([], True)
    assert (keys.flush(), keys.unfinished) == (["esc"], False)
    assert keys.feed(b"\x1b") + keys.feed(b"[") + keys.feed(b"A") == ["up"]
    assert keys.feed("é".encode()[:1]) + keys.feed("é".encode()[1:]) == ["é"]


@given(st.lists(st.binary(max_size=8), max_size=8))
def test_any_bytes_are_read_and_none_are_kept_for_ever(reads: list[bytes]) -> None:
    keys = Keys()
    for data in reads:
        assert all(key for key in keys.feed(data))
    keys.flush()
    assert keys.feed(b"\x1b[A")[-1:] == ["up"] or keys.unfinished or reads  # a lead byte may swallow one


# --- the board --------------------------------------------------------------------------------------------


def approval(n: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "approval_id": f"apr_{n}",
        "state": "pending",
        "action": {"digest": DIGEST[:-1] + str(n), "args": {}},
        "asked_by": {},
        "stages": [],
        **more,
    }


STRONG = approval(stages=[{"state": "open", "assurance": "strong"}])
GENEROUS = approval(
    asked_by={"changes": {"cents": "lower", "note": "remove"}, "standing": {"max_uses": 20, "max_s": 3600}},
    resource="orders/7",
)


def type_(board: Board, *keys: str) -> list[Any]:
    """Press keys, a longer text being typed; what was ordered."""
    named = {"enter", "esc", "up", "down", "pgdn", "home", "end", "backspace", "clear", "quit"}
    orders: list[Any] = []
    for key in keys:
        for each in [key] if key in named else key:
            orders += board.press(each)
    return orders


def showing(*found: dict[str, Any]) -> Board:
    board = Board()
    board.listed(found, False)
    board.shown = list(found)
    return board


def cast(*keys: str, of: dict[str, Any]) -> Cast:
    (order,) = type_(showing(of), *keys)
    assert isinstance(order, Cast)
    return order


def wrong(board: Board) -> str:
    """What is said of the last answer."""
    assert board.asking is not None
    return board.asking.wrong or ""


def test_a_vote_carries_the_digest_of_what_was_shown() -> None:
    order = cast("a", "fine", "enter", of=approval(3))
    assert order == Cast(
        ("apr_3",), (approval(3)["action"]["digest"],), {"vote": "approve", "channel": "cli", "comment": "fine"}
    )
    assert cast("r", "enter", of=approval()).body == {"vote": "reject", "channel": "cli"}


def test_a_one_time_code_is_asked_for_where_the_open_stage_needs_it() -> None:
    board = showing(STRONG)
    assert type_(board, "a", "enter", "12", "enter") == []
    assert wrong(board) == "a one-time code has six digits"
    (order,) = type_(board, "clear", "123456", "enter")
    assert order.body["code"] == "123456"


def test_a_code_that_was_missing_is_asked_for_and_the_same_vote_sent_again() -> None:
    board = showing(approval())
    (first,) = type_(board, "a", "fine", "enter")
    board.refused("stage `security` takes a one-time code", "assurance", first)
    assert wrong(board) == "stage `security` takes a one-time code"
    (again,) = type_(board, "654321", "enter")
    assert again.body == first.body | {"code": "654321"}
    board.refused("the code is wrong", "assurance", again)
    assert board.asking is None and board.wrong, "asked for once, and not for ever"


def test_changes_are_written_as_json_and_wrong_ones_are_said_at_once() -> None:
    board = showing(GENEROUS)
    type_(board, "c", "cents", "enter")
    assert "name=value" in wrong(board)
    type_(board, "clear", "cents=ten", "enter")
    assert "is not JSON" in wrong(board)
    type_(board, "clear", "enter")
    assert "no change yet" in wrong(board)
    (order,) = type_(board, "cents=10", "enter", "note=", "enter", "enter", "less", "enter")
    assert order.body == {
        "vote": "approve",
        "channel": "cli",
        "comment": "less",
        "changes": {"cents": 10, "note": None},
    }


def test_alike_actions_are_allowed_ahead_within_what_is_said() -> None:
    board = showing(GENEROUS)
    type_(board, "s", "soon", "enter")
    assert "8h" in wrong(board)
    type_(board, "clear", "30min", "enter", "0", "enter")
    assert "1 to 10000" in wrong(board)
    (order,) = type_(board, "clear", "5", "enter", "enter", "enter")
    assert order.body["standing"] == {"for_s": 1800, "max_uses": 5}
    order = cast("s", "1h", "enter", "2", "enter", "orders/*", "enter", "enter", of=GENEROUS)
    assert order.body["standing"] == {"for_s": 3600, "max_uses": 2, "resource": "orders/*"}


@pytest.mark.parametrize(
    ("key", "found", "says"),
    [
        ("c", [approval()], "nobody change"),
        ("s", [approval()], "nobody allow"),
        ("c", [GENEROUS, approval(2)], "one approval at a time"),
        ("a", [approval(state="approved")], "approved already"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_asked(key: str, found: list[Any], says: str) -> None:
    board = showing(*found)
    assert type_(board, key) == [] and board.asking is None and says in board.notice and board.wrong


def test_what_is_read_late_is_not_voted_on_in_place_of_what_was_chosen() -> None:
    """The list was read again while another approval was opened: its answer must not take the vote."""
    board = showing(approval(1))
    assert board.listed([approval(1), approval(2)], False) == [Load(("apr_1",))]
    type_(board, "esc", "down")
    assert board.press("r") == [Load(("apr_2",))]
    board.loaded([approval(1)])
    assert (board.asking, board.shown) == (None, [])
    board.loaded([approval(2)])
    assert (wrong(board), board.shown) == ("", [approval(2)])


def test_what_ends_while_it_is_asked_about_is_asked_about_no_more() -> None:
    board = showing(approval())
    type_(board, "a", "fine")
    board.loaded([approval(state="rejected")])
    assert board.asking is None and "rejected already" in board.notice
    assert type_(board, "enter") == []


def test_the_cursor_stays_on_its_approval_and_near_its_place() -> None:
    board = Board()
    board.listed([approval(n) for n in (1, 2, 3)], False)
    type_(board, "down")
    board.listed([approval(n) for n in (4, 1, 2, 3)], False)
    found = [board.at]
    board.listed([approval(n) for n in (4, 1, 3)], False)
    found.append(board.at)
    board.listed([], False)
    assert [*found, board.at] == ["apr_2", "apr_3", None]
    assert type_(board, "down", "enter", "a", " ") == []


def test_marks_go_with_what_is_gone() -> None:
    board = Board()
    board.listed([approval(n) for n in (1, 2, 3)], False)
    type_(board, " ", " ")
    board.listed([approval(n) for n in (2, 3)], False)
    assert board.marked == {"apr_2"}
    assert board.press("a") == [Load(("apr_2",))]


def test_mine_and_all_and_leaving() -> None:
    board = Board()
    assert board.press("m") == [Reload(mine=True)] and board.press("m") == [Reload(mine=False)]
    assert board.press("q") == [Quit()] and board.press("quit") == [Quit()]
    assert board.linked(True, "live") == [Reload(mine=False)] and board.linked(False, "away") == []


@given(
    st.lists(
        st.sampled_from(
            [*"arcsmjkq x=1", "enter", "esc", "up", "down", "pgup", "pgdn", "home", "end", "backspace", "clear", "left"]
        ),
        max_size=60,
    )
)
def test_no_keys_break_the_board_and_no_vote_goes_out_without_enter(keys: list[str]) -> None:
    board = Board(rows=5)
    board.listed([GENEROUS, approval(2)], False)
    for key in keys:
        for order in board.press(key):
            if isinstance(order, Load):
                board.loaded([next(i for i in board.items if i["approval_id"] == name) for name in order.ids])
                board.content = 12
            if isinstance(order, Cast):
                assert key == "enter" and order.digests and board.asking is None
        assert 0 <= board.scroll <= max(0, board.content - board.rows)
