"""Starting one child: what happens between fork and the child's own code.

A child leads a session of its own, so that a terminal's Ctrl-C reaches only the parent; it has the default
signal handlers, no descriptor of the parent's, and its output in its log file. What people should read (an
`EmbeddedError`) comes back over a pipe; all else that goes wrong is a traceback in the log.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from countersign_cli.embedded import linux
from countersign_cli.embedded.errors import EmbeddedError, MayPass

_LOG_LIMIT_BYTES = 10_000_000


@dataclass(frozen=True)
class Forked:
    """A running child, seen from the parent."""

    pid: int
    fault: int
    """The read end of the pipe on which the child leaves an `EmbeddedError`."""

    def take_fault(self) -> str:
        """What the child, which has ended, left for people to read, if anything; closes the pipe."""
        os.set_blocking(self.fault, False)
        try:
            return os.read(self.fault, 4096).decode(errors="replace")
        except BlockingIOError:  # a process of the child's outlived it and holds the pipe
            return ""
        finally:
            os.close(self.fault)


def fork_child(
    name: str, body: Callable[[], int], *, enlist: Callable[[], None], stop_signal: int, log: Path | None
) -> Forked:
    """Forks a child that runs `body` and exits with what it returns.

    Args:
        name: shown by `top`, where the system allows.
        body: the child's code, or a function that executes a program.
        enlist: called first in the child: tells the guardian of it.
        stop_signal: also sent by the kernel when the parent dies (Linux), in case the guardian is dead too.
        log: the file that takes the child's output; None leaves it on the parent's.

    Raises:
        RuntimeError: this process has threads, and a fork might copy a lock that nobody opens again.
        EmbeddedError: the log file cannot be opened.
    """
    if threading.active_count() > 1:
        raise RuntimeError(f"cannot fork {name}: this process runs the threads {threading.enumerate()}")
    output = None if log is None else _open_log(log)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    parent = os.getpid()
    fault, fault_child = os.pipe()
    # No signal may run the parent's handlers in the child, which would write into the parent's wake-up pipe.
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                enlist()
                become_child(name)
                if output is not None:
                    os.dup2(output, 1)
                    os.dup2(output, 2)
                close_all_but([fault_child])
                signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
                end_with_parent(parent, stop_signal)
                code = _run(body, fault_child)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
        os.close(fault_child)
        if output is not None:
            os.close(output)
    return Forked(pid, fault)


def become_child(name: str) -> None:
    """Leaves the parent's session, signal handlers and standard input behind. (Python itself reseeds `random`.)"""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    quiet = os.open(os.devnull, os.O_RDONLY)
    os.dup2(quiet, 0)
    with suppress(OSError):
        linux.set_process_name(f"cs:{name}")


def close_all_but(kept: Iterable[int], *, quiet: bool = False) -> None:
    """Closes every descriptor from 3 on but these; `quiet` also turns standard output and error away."""
    if quiet:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
    stay = set(kept)
    for fd in [int(entry.name) for entry in Path("/dev/fd").iterdir()]:
        if fd > 2 and fd not in stay:
            with suppress(OSError):  # the listing's own descriptor is closed by now
                os.close(fd)


def end_with_parent(parent: int, stop_signal: int) -> None:
    """Has the kernel stop this process when its parent dies (Linux); ends at once if it is dead already."""
    with suppress(OSError):
        linux.signal_when_parent_dies(stop_signal)
    if os.getppid() != parent:
        os._exit(1)


def executing(
    argv: Sequence[str], env: Mapping[str, str], preexec: Callable[[], None] | None, stop_signal: int
) -> Callable[[], int]:
    """The body of a child that becomes the program `argv`; to be made in the parent."""
    parent = os.getpid()

    def body() -> int:
        if preexec is not None:
            preexec()
        # Python ignores these for itself; a program would inherit that.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        end_with_parent(parent, stop_signal)  # again: a change of user in preexec has undone it
        try:
            os.execve(argv[0], list(argv), dict(env))  # noqa: S606 (no shell is wanted)
        except OSError as error:
            raise EmbeddedError(f"cannot run {argv[0]}: {error.strerror}; run make setup") from error

    return body


def _run(body: Callable[[], int], fault: int) -> int:
    # The parent may have replaced these (a progress display); the child prints plainly, line by line.
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    try:
        return body()
    except EmbeddedError as error:
        os.write(fault, str(error).encode())
        print(error, file=sys.stderr)
        return os.EX_TEMPFAIL if isinstance(error, MayPass) else 1
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()


def _open_log(path: Path) -> int:
    """Opens a log to append to; one that has grown large makes room first (one earlier file is kept)."""
    try:
        if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise EmbeddedError(f"cannot write the log {path}: {error.strerror}; free or mend its folder") from error
