"""The terminal of the watches: what was pressed is not lost, and reading it never waits for what is gone."""

from __future__ import annotations

import array
import fcntl
import os
import pty
import select
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from countersign_cli.watching.terminal import Terminal


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """The person's end, and the program's."""
    person, program = pty.openpty()
    yield person, program
    os.close(person)
    os.close(program)


def waiting(program: int) -> int:
    """How many bytes can be read."""
    count = array.array("i", [0])
    fcntl.ioctl(program, termios.FIONREAD, count)
    return count[0]


def until(true: Callable[[], bool]) -> None:
    """Wait for what the kernel does in the background."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_ctrl_c_takes_away_nothing_that_was_found_to_be_there(
    ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking and reading: whoever then read would wait, and hear of no signal."""
    person, program = ends
    look = select.select

    def looked(*asked: Any) -> Any:
        found = look(*asked)
        os.write(person, b"\x03b")
        until(lambda: waiting(program) in (1, 3))  # it is flushed where `b` is all there is
        return found

    with Terminal(program) as shown:
        os.write(person, b"aa")
        until(lambda: waiting(program) == 2)
        monkeypatch.setattr(select, "select", looked)
        assert shown.keys(5) == ["a", "a", "b"]
