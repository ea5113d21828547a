"""The guardian: a small process that ends every child when the supervisor is gone without a goodbye.

Portable, where Linux's parent-death signal is not: it holds the read end of a pipe whose write end only the
supervisor keeps. Lines on the pipe name the wards: `+<pid> <signal> <last>`, written by each child itself before it
does anything, so that there is no moment in which a child is unknown, and `-<pid>`, written by the supervisor
when it has reaped one. End of file without the line `bye` means that the supervisor was killed. What others need
(`<last>` is 1: the servers) ends when all else has ended.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

from countersign_cli.embedded.fork import become_child, close_all_but

_PATIENCE_SECONDS = 3.0
_POLL_SECONDS = 0.02


class Guardian:
    """The supervisor's handle on the guardian process.

    Args:
        keeps: file descriptors that the guardian keeps open, so that the lock on the data folder is held
            until everything has ended.
    """

    def __init__(self, keeps: Sequence[int] = ()) -> None:
        self._keeps = tuple(keeps)
        self._write_end = -1
        self.pid: int | None = None

    def start(self, wards: Iterable[tuple[int, int, bool]] = ()) -> None:
        """Forks the guardian. `wards` (as for `enlist`) already run, if an earlier guardian was killed."""
        if self._write_end >= 0:
            os.close(self._write_end)
        read_end, self._write_end = os.pipe()
        old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid = os.fork()
        if pid == 0:
            try:
                become_child("guardian")
                close_all_but((read_end, *self._keeps), quiet=True)
                # Whoever stops the system by name must not stop its guardian before it.
                for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                    signal.signal(ignored, signal.SIG_IGN)
                signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
                _guard(read_end)
            finally:
                os._exit(0)
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
        os.close(read_end)
        self.pid = pid
        for ward in wards:
            self._name(*ward)

    def enlist(self, stop_signal: int, last: bool) -> None:
        """Called by a forked child: names itself as a ward, which ends after those that are not `last`."""
        self._name(os.getpid(), stop_signal, last)

    def release(self, pid: int) -> None:
        """The supervisor has reaped this ward; its number may be used again."""
        self._say(f"-{pid}\n")

    def goodbye(self) -> None:
        """Everything has ended: lets the guardian go and waits for it."""
        self._say("bye\n")
        os.close(self._write_end)
        self._write_end = -1
        if self.pid is not None:
            with suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
            self.pid = None

    def _name(self, pid: int, stop_signal: int, last: bool) -> None:
        self._say(f"+{pid} {stop_signal} {int(last)}\n")

    def _say(self, line: str) -> None:
        # A guardian that was killed is started again by the supervisor, which names all wards anew.
        with suppress(BrokenPipeError):
            os.write(self._write_end, line.encode())


class _Ward:
    """A process to end; told from a later one of the same number by its pidfd, or by leading its session."""

    def __init__(self, pid: int, stop_signal: int, last: bool) -> None:
        self.pid = pid
        self.stop_signal = stop_signal
        self.last = last
        self._pidfd = -1
        if sys.platform == "linux":
            with suppress(OSError):  # an old kernel, a filter, or it is gone already
                self._pidfd = os.pidfd_open(pid)

    def alive(self) -> bool:
        if self._pidfd >= 0:
            return not select.select([self._pidfd], [], [], 0)[0]
        try:
            return os.getsid(self.pid) == self.pid
        except OSError:
            return False

    def send(self, number: int) -> None:
        with suppress(OSError):
            if self.alive():
                os.kill(self.pid, number)

    def kill_group(self) -> None:
        """Kills it and what it started in its process group."""
        with suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)

    def forget(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)


def _guard(read_end: int) -> None:
    """Reads the pipe to its end; then ends the wards, unless there was a goodbye."""
    wards: dict[int, _Ward] = {}
    with os.fdopen(read_end, "rb") as lines:
        for line in lines:
            if line == b"bye\n":
                return
            words = line[1:].split()
            pid = int(words[0])
            if pid in wards:
                wards.pop(pid).forget()
            if line.startswith(b"+"):
                wards[pid] = _Ward(pid, int(words[1]), words[2] == b"1")
    for last in (False, True):
        _end([ward for ward in wards.values() if ward.last is last])


def _end(wards: list[_Ward]) -> None:
    """The stop signal to each, patience, SIGKILL; what a ward leaves in its process group goes with it."""
    for ward in reversed(wards):
        ward.send(ward.stop_signal)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while wards and time.monotonic() < deadline:
        for ward in [ward for ward in wards if not ward.alive()]:
            ward.kill_group()
            wards.remove(ward)
        time.sleep(_POLL_SECONDS if wards else 0)
    for ward in wards:
        ward.send(signal.SIGCONT)
        ward.kill_group()
