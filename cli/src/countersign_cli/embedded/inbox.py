"""Signals as things to wait for: no handler does any work, so nothing is interrupted half way."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Handler = Callable[[int, FrameType | None], object] | int | None


class SignalInbox:
    """While open: SIGINT, SIGTERM and SIGHUP only set `stop_wanted`, and they and SIGCHLD end a `wait`.

    Only for the main thread. SIGHUP stays ignored under `nohup`.
    """

    def __init__(self) -> None:
        self.stop_wanted = False
        self._read_end = -1
        self._write_end = -1
        self._earlier: dict[signal.Signals, Handler] = {}
        self._earlier_wakeup = -1

    def __enter__(self) -> SignalInbox:
        self._read_end, self._write_end = os.pipe()
        for fd in (self._read_end, self._write_end):
            os.set_blocking(fd, False)
        # A full pipe is no loss: it wakes all the same.
        self._earlier_wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in _STOP:
            if not (number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN):
                self._earlier[number] = signal.signal(number, self._note_stop)
        self._earlier[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _note_nothing)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._earlier_wakeup)
        os.close(self._read_end)
        os.close(self._write_end)

    def wait(self, seconds: float | None) -> None:
        """Returns at the next signal, or after so many seconds."""
        if select.select([self._read_end], [], [], seconds)[0]:
            with suppress(BlockingIOError):
                while os.read(self._read_end, 512):
                    pass

    def _note_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stop_wanted = True


def _note_nothing(_number: int, _frame: FrameType | None) -> None:
    """SIGCHLD must have a handler, or it wakes nobody."""
