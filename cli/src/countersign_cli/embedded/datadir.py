"""The data folder as the processes use it: lock, servers' folders, logs, `run.json`; and free ports.

Where keys and tokens lie in it is bootstrap's business.

One running system per folder: the lock is held by the supervisor and its guardian, so it is free only when
every process of an earlier run has ended.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from countersign_cli.embedded.errors import EmbeddedError
from countersign_cli.embedded.leftover import process_exists

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class RunRecord:
    """What runs on a data folder, for `countersign status`; in `run.json`."""

    pid: int
    """The supervisor."""
    started: str
    """RFC 3339."""
    pids: Mapping[str, int] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    urls: Mapping[str, str] = field(default_factory=dict)


class DataDir:
    """One data folder. Making this object touches nothing."""

    def __init__(self, path: Path) -> None:
        self.root = path.absolute()
        self.nats = self.root / "nats"
        self.postgres = self.root / "postgres"
        self.logs = self.root / "logs"
        self.run = self.root / "run.json"
        self._lock = self.root / "up.lock"
        self._lock_fd = -1

    def create(self) -> None:
        """Makes the folder and those in it, private to the user, or checks an existing one.

        Raises:
            EmbeddedError: it cannot be made or written, or holds somebody's other things.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._lock.exists() and any(self.root.iterdir()):
                raise EmbeddedError(
                    f"{self.root} is not empty and was not made by countersign: choose another --data-dir"
                )
            self.root.chmod(0o700)
            self._lock.touch(mode=0o600)
            with tempfile.TemporaryFile(dir=self.root):
                pass
            for folder in (self.nats, self.postgres, self.logs):
                folder.mkdir(mode=0o700, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise EmbeddedError(f"{error.filename} is not a folder: choose another --data-dir") from error
        except OSError as error:
            raise EmbeddedError(f"cannot write in {self.root}: {error.strerror}; choose another --data-dir") from error

    def lock(self, *, wait_seconds: float = 10.0) -> int:
        """Takes the folder for this process; returns the descriptor that holds the lock.

        Waits only while the guardian of a killed run is still ending that run's processes.

        Raises:
            EmbeddedError: another `up` runs on it; names its pid.
        """
        fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + wait_seconds
        while not self._take(fd):
            holder = self._noted_pid()
            if time.monotonic() > deadline or (holder is not None and process_exists(holder)):
                os.close(fd)
                raise EmbeddedError(
                    f"countersign is already running on {self.root} (pid {holder}): stop it first, or choose "
                    "another --data-dir"
                )
            time.sleep(_POLL_SECONDS)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock_fd = fd
        return fd

    def unlock(self) -> None:
        """Gives the folder back."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def holder(self) -> int | None:
        """The pid of the `up` that runs on this folder; None if none does."""
        try:
            fd = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return None if self._take(fd) else self._noted_pid()
        finally:
            os.close(fd)

    def write_run(self, record: RunRecord) -> None:
        """Says what runs here."""
        write_secret(self.run, json.dumps(asdict(record), indent=2) + "\n")

    def read_run(self) -> RunRecord | None:
        """What runs here; None if nothing does, or it does not say."""
        if self.holder() is None:
            return None
        try:
            found: dict[str, Any] = json.loads(self.run.read_text())
            return RunRecord(**found)
        except (OSError, ValueError, TypeError):
            return None

    def _take(self, fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise EmbeddedError(
                f"cannot lock {self._lock}: {error.strerror}; choose a --data-dir on a local disk"
            ) from error
        return True

    def _noted_pid(self) -> int | None:
        try:
            return int(self._lock.read_text())
        except (OSError, ValueError):
            return None


def write_secret(path: Path, content: str | bytes) -> None:
    """Writes a file that only the user can read: wholly or not at all, and on the disk when this returns."""
    data = content.encode() if isinstance(content, str) else content
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp makes it 0600
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def check_port(host: str, port: int, what: str, option: str = "--port") -> None:
    """Checks that `what` can listen there.

    Raises:
        EmbeddedError: it cannot; names the option that chooses another port.
    """
    if not 0 < port < 65536:
        raise EmbeddedError(f"{port} is no port for the {what}: choose one from 1 to 65535 with {option}")
    used = f"port {port} on {host} is in use, but the {what} needs it: free it, or choose one with {option}"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as caller:
        # On macOS a bind beside somebody's wildcard listener succeeds; only a call tells.
        caller.settimeout(0.5)
        if caller.connect_ex((host, port)) == 0:
            raise EmbeddedError(used)
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise EmbeddedError(used) from error
            raise EmbeddedError(
                f"the {what} cannot use port {port} on {host}: {error.strerror}; choose another with {option}"
            ) from error
