"""A terminal that gives each key at once, and gets its manners back however it ends (POSIX: Linux and macOS)."""

from __future__ import annotations

import os
import select
import signal
import termios
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

from .keys import Keys

#: How long the rest of a key's bytes may take after an ESC, in seconds.
_ESC_S = 0.05


class Terminal:
    """The keys of a tty, and a wake-up from other threads and from a change of its size. Use it in ``with``."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._keys = Keys()
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        os.set_blocking(self._woken, False)
        self._before: list[Any] | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._fd)
        self._give_each_key(termios.TCSAFLUSH)
        for number in (signal.SIGWINCH, signal.SIGCONT):
            self._handlers[number] = signal.signal(number, self._signalled)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._before is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
        os.close(self._waker)
        os.close(self._woken)

    def wake(self) -> None:
        """End the wait of :meth:`keys`, from any thread."""
        with suppress(OSError):  # it is full, so it wakes anyway; or closed, and nobody waits
            os.write(self._waker, b"!")

    def keys(self, wait_s: float) -> list[str]:
        """The keys that were pressed; waits at most so long for one. Raises :class:`EOFError` when the tty is gone."""
        ready, _, _ = select.select([self._fd, self._woken], [], [], _ESC_S if self._keys.unfinished else wait_s)
        if self._woken in ready:
            os.read(self._woken, 4096)
        if self._fd in ready:
            data = os.read(self._fd, 4096)
            if not data:
                raise EOFError
            return self._keys.feed(data)
        return self._keys.flush() if self._keys.unfinished else []

    def _signalled(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGCONT:
            self._give_each_key(termios.TCSADRAIN)  # the shell set it back when it stopped us
        self.wake()

    def _give_each_key(self, when: int) -> None:
        """Keys come one by one and are not echoed. What was found to be there stays there until it is read.

        Else a Ctrl-C between the two would flush it (``NOFLSH`` is off by default), and whoever reads wait for ever.
        """
        mode = termios.tcgetattr(self._fd)
        mode[3] = mode[3] & ~(termios.ECHO | termios.ICANON) | termios.NOFLSH
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, when, mode)
