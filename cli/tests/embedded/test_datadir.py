"""The data folder: privacy, the lock, and the one line for each thing that can be wrong with it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from countersign_cli.embedded.datadir import DataDir, RunRecord, check_port, write_secret
from countersign_cli.embedded.errors import EmbeddedError

HOLDER = """
import pathlib, signal, sys, os
from countersign_cli.embedded.datadir import DataDir
data = DataDir(pathlib.Path(sys.argv[1]))
data.create()
data.lock()
if len(sys.argv) > 2 and os.fork() == 0:
    os.close(1)
    signal.sigwait({signal.SIGUSR1})
    os._exit(0)
print("locked", flush=True)
signal.pause()
"""


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    folder = DataDir(tmp_path / "data")
    folder.create()
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_all_of_it_is_private_whatever_the_umask(tmp_path: Path) -> None:
    earlier = os.umask(0)
    try:
        made = DataDir(tmp_path / "deep" / "data")
        made.create()
    finally:
        os.umask(earlier)
    for folder in (made.root, made.nats, made.postgres, made.logs):
        assert mode(folder) == 0o700
    assert mode(made.root / "up.lock") == 0o600


def test_an_existing_empty_folder_is_taken_and_made_private(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    made = DataDir(tmp_path / "data")
    made.create()
    made.create()
    assert mode(made.root) == 0o700


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(
        EmbeddedError, match=r"is not empty and was not made by countersign: choose another --data-dir$"
    ):
        DataDir(tmp_path).create()
    assert mode(tmp_path) == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_file_in_the_way_is_one_line(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match=r"^.*/file.* is not a folder: choose another --data-dir$"):
        DataDir(tmp_path / where).create()


def test_a_folder_that_cannot_be_written_is_one_line() -> None:
    """Not even root makes folders there."""
    place = "/proc/countersign" if sys.platform == "linux" else "/System/countersign"
    with pytest.raises(EmbeddedError, match=rf"^cannot write in {place}: [^;]+; choose another --data-dir$"):
        DataDir(Path(place)).create()


def test_the_second_to_lock_it_is_refused_at_once_and_told_who_has_it(data: DataDir) -> None:
    with holder(data) as process:
        assert data.holder() == process.pid
        began = time.monotonic()
        with pytest.raises(
            EmbeddedError, match=rf"already running on {re.escape(str(data.root))} \(pid {process.pid}\)"
        ):
            data.lock(wait_seconds=60)
        assert time.monotonic() - began < 30, "loosely: at once"
        process.kill()


def test_a_killed_holder_leaves_no_lock(data: DataDir) -> None:
    with holder(data) as process:
        process.kill()
    assert data.holder() is None
    data.lock()
    assert data.holder() == os.getpid()
    data.unlock()
    assert data.holder() is None


def test_while_a_killed_run_is_still_being_ended_the_next_one_waits(data: DataDir) -> None:
    with holder(data, "guarded") as process:
        guardian = int(subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, check=True).stdout)
        process.kill()
        process.wait()
    with pytest.raises(EmbeddedError):
        data.lock(wait_seconds=0.2)
    os.kill(guardian, signal.SIGUSR1)
    data.lock(wait_seconds=5)
    data.unlock()


def test_what_runs_is_told_only_while_it_runs(data: DataDir) -> None:
    record = RunRecord(os.getpid(), "2026-01-01T00:00:00Z", {"policy": 7}, {"gateway": 8001}, {"gateway": "http://x"})
    assert data.read_run() is None
    data.lock()
    assert data.read_run() is None
    data.write_run(record)
    assert data.read_run() == record
    assert mode(data.run) == 0o600
    data.run.write_text(json.dumps({"another": "version's"}))
    assert data.read_run() is None
    data.write_run(record)
    data.unlock()
    assert data.read_run() is None


def test_a_secret_is_private_from_the_first_and_never_half_written(tmp_path: Path) -> None:
    earlier = os.umask(0)
    try:
        write_secret(tmp_path / "token", "first")
    finally:
        os.umask(earlier)
    assert mode(tmp_path / "token") == 0o600
    write_secret(tmp_path / "token", b"second")
    assert (tmp_path / "token").read_text() == "second"
    with pytest.raises(UnicodeEncodeError):
        write_secret(tmp_path / "token", "\udc80")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_secret(tmp_path / "taken", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken", "token"]
    assert (tmp_path / "token").read_text() == "second"


@pytest.mark.parametrize("listens_on", ["127.0.0.1", "0.0.0.0"])
def test_a_port_in_use_is_one_line_with_the_option(listens_on: str) -> None:
    with socket.socket() as taken:
        taken.bind((listens_on, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=rf"^port {port} on 127.0.0.1 is in use, but the gateway .*--port$"):
            check_port("127.0.0.1", port, "gateway", "--port")
    check_port("127.0.0.1", port, "gateway", "--port")


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("127.0.0.1", 0, "0 is no port for the NATS server: choose one from 1 to 65535 with --nats-port"),
        ("127.0.0.1", 65536, "65536 is no port for the NATS server: choose one"),
        ("192.0.2.1", 4222, "the NATS server cannot use port 4222 on 192.0.2.1: "),
    ],
)
def test_a_port_that_cannot_be_is_one_line(host: str, port: int, expected: str) -> None:
    with pytest.raises(EmbeddedError) as caught:
        check_port(host, port, "NATS server", "--nats-port")
    assert str(caught.value).startswith(expected)


def holder(data: DataDir, *arguments: str) -> subprocess.Popen[str]:
    """A process that holds the lock; with an argument, a child of it does too."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(data.root), *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process
