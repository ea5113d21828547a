"""What surrounds a fork: the log it writes to, and when it is refused."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from countersign_cli.embedded.errors import EmbeddedError
from countersign_cli.embedded.fork import executing, fork_child


def run(log: Path, text: str = "a line", code: int = 0) -> tuple[int, str]:
    def body() -> int:
        print(text)
        return code

    forked = fork_child("toy", body, enlist=lambda: None, stop_signal=signal.SIGTERM, log=log)
    _, status = os.waitpid(forked.pid, 0)
    return os.waitstatus_to_exitcode(status), forked.take_fault()


def test_output_goes_to_a_private_log_which_grows(tmp_path: Path) -> None:
    assert run(tmp_path / "toy.log", "first", 0) == (0, "")
    assert run(tmp_path / "toy.log", "second", 3) == (3, "")
    assert (tmp_path / "toy.log").read_text() == "first\nsecond\n"
    assert (tmp_path / "toy.log").stat().st_mode & 0o077 == 0


def test_a_large_log_makes_room_and_one_earlier_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "toy.log"
    log.write_text("x" * 10_000_001)
    run(log, "new")
    run(log, "newer")
    assert log.read_text() == "new\nnewer\n"
    assert (tmp_path / "toy.log.1").stat().st_size == 10_000_001


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match=r"^cannot write the log .*/file/toy\.log: Not a directory; "):
        run(tmp_path / "file" / "toy.log")


def test_a_program_that_is_missing_is_one_line_from_the_child(tmp_path: Path) -> None:
    body = executing([str(tmp_path / "none")], {}, None, signal.SIGTERM)
    forked = fork_child("toy", body, enlist=lambda: None, stop_signal=signal.SIGTERM, log=tmp_path / "log")
    os.waitpid(forked.pid, 0)
    assert forked.take_fault() == f"cannot run {tmp_path / 'none'}: No such file or directory; run make setup"


def test_a_program_gets_its_environment_and_no_ignored_signal(tmp_path: Path) -> None:
    shell = 'echo "$WORD"; kill -PIPE $$; echo alive'
    body = executing(["/bin/sh", "-c", shell], {"WORD": "given", "PATH": os.defpath}, None, signal.SIGTERM)
    forked = fork_child("toy", body, enlist=lambda: None, stop_signal=signal.SIGTERM, log=tmp_path / "log")
    _, status = os.waitpid(forked.pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGPIPE
    assert (tmp_path / "log").read_text() == "given\n"
    forked.take_fault()


def test_a_process_with_threads_is_not_forked(tmp_path: Path) -> None:
    """The forked copy of a lock that another thread holds is never opened."""
    go = threading.Event()
    thread = threading.Thread(target=go.wait, name="somebody's")
    thread.start()
    try:
        with pytest.raises(RuntimeError, match=r"cannot fork toy: .*somebody's"):
            run(tmp_path / "log")
    finally:
        go.set()
        thread.join()
