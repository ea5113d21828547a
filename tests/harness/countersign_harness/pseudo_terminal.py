"""A pseudo-terminal with a program in it: what is on its screen, and keys.

It understands what full-screen programs of this repository write: text, the cursor's home and moves, clearing, and
nothing else that moves anything. An unknown sequence is an error, so that the picture is never quietly wrong.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Self

_CSI = re.compile(r"\x1b\[(?P<args>[?0-9;]*)(?P<end>[@-~])")
#: Modes and colours change no text.
_SILENT = frozenset("mhl")


class Grid:
    """The characters of a screen."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._lines = [""] * rows
        self._row = self._column = 0
        self._rest = ""

    @property
    def text(self) -> str:
        """What is on the screen, line by line."""
        return "\n".join(line.rstrip() for line in self._lines)

    def resize(self, columns: int, rows: int) -> None:
        """Another size; what is drawn next fills it."""
        self.columns, self.rows = columns, rows
        self._lines = [""] * rows
        self._row = self._column = 0

    def write(self, text: str) -> None:
        """What the program wrote."""
        text, self._rest = self._rest + text, ""
        while text:
            if text[0] == "\x1b":
                found = _CSI.match(text)
                if found is None:
                    self._rest = text  # the rest comes
                    return
                self._control(found["args"], found["end"])
                text = text[found.end() :]
                continue
            self._put(text[0])
            text = text[1:]

    def _control(self, args: str, end: str) -> None:
        if end == "H":
            row, _, column = args.partition(";")
            self._row, self._column = int(row or 1) - 1, int(column or 1) - 1
        elif end == "J":
            self._lines = [""] * self.rows
        elif end == "K":
            self._lines[self._row] = self._lines[self._row][: self._column]
        elif end not in _SILENT:
            raise ValueError(f"the screen does not know CSI {args}{end}")

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._column = 0
            self._row += 1
            if self._row >= self.rows:
                self._lines = [*self._lines[1:], ""]
                self._row = self.rows - 1
        elif character >= " ":
            line = self._lines[self._row].ljust(self._column)
            self._lines[self._row] = line[: self._column] + character + line[self._column + 1 :]
            self._column += 1


def _control() -> None:
    """In the new process: its standard input is the terminal that signals it, at Ctrl-C for one."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class PseudoTerminal:
    """A program in a terminal of ``columns`` by ``rows``. Use it in ``async with``."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], columns: int = 110, rows: int = 30) -> None:
        self._command, self._env = command, env
        self.grid = Grid(columns, rows)
        self.written = b""
        self._master = -1
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._master, slave = pty.openpty()
        self._size(self.grid.columns, self.grid.rows)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(  # noqa: ASYNC220  (forking takes no time; what it prints is awaited)
            self._command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**self._env, "TERM": "xterm-256color"},
            start_new_session=True,
            preexec_fn=_control,
        )
        self._slave = slave
        os.set_blocking(self._master, False)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        await asyncio.to_thread(self.process.wait)
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)

    def _read(self) -> None:
        with suppress(OSError):
            data = os.read(self._master, 65_536)
            self.written += data
            self.grid.write(data.decode("utf-8", "ignore"))
            self._changed.set()

    def _size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        """The person pulls at the window."""
        self.grid.resize(columns, rows)
        self._size(columns, rows)
        self.process.send_signal(signal.SIGWINCH)

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._master, keys.encode())

    async def until(self, *texts: str, without: str | None = None, seconds: float = 30) -> str:
        """The screen, once all of ``texts`` are on it, and ``without`` is not."""
        try:
            async with asyncio.timeout(seconds):
                while not all(text in self.grid.text for text in texts) or (without and without in self.grid.text):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"never on the screen: {texts}, without {without}\n{self.grid.text}") from None
        return self.grid.text

    async def ended(self, seconds: float = 20) -> int:
        """The program's exit code."""
        return await asyncio.to_thread(self.process.wait, seconds)

    @property
    def mannered(self) -> bool:
        """Whether the terminal is as it was before the program: it echoes, and gives lines."""
        return termios.tcgetattr(self._slave) == self.before
