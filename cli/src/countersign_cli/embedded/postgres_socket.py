"""PostgreSQL's Unix socket: which folder it lies in, and whether a server answers on it."""

from __future__ import annotations

import os
import socket
import stat
import sys
import tempfile
from pathlib import Path

SOCKET_PATH_LIMIT_BYTES = 103 if sys.platform == "darwin" else 107
"""What a Unix socket's address holds (`sun_path` without its final zero)."""


def socket_folder(home: Path, port: int, owner: int) -> Path:
    """The folder to put the socket into, made if it is missing; private to the caller or to user id `owner`.

    A folder outside `home` is recorded in `home/socket.path`, so that the next run finds it again.
    """
    inside = home / "socket"
    if _fits(inside, port):
        inside.mkdir(mode=0o700, exist_ok=True)
        return inside
    record = home / "socket.path"
    if record.exists():
        recorded = Path(record.read_text().strip())
        if _is_private(recorded, owner) and _fits(recorded, port):
            return recorded
    outside = next(
        folder
        for base in (tempfile.gettempdir(), "/tmp")  # noqa: S108 (mkdtemp makes it private; TMPDIR may be too long)
        if _fits(folder := Path(base) / "cs-12345678", port) or base == "/tmp"  # noqa: S108
    ).parent
    made = Path(tempfile.mkdtemp(prefix="cs-", dir=outside))
    record.write_text(f"{made}\n")
    return made


def accepts_connections(folder: Path, port: int) -> bool:
    """Whether a server answers there and takes sessions (a server that starts or stops answers, and refuses).

    Source: PostgreSQL's frontend/backend protocol, the start-up message.
    """
    body = (196608).to_bytes(4, "big") + b"user\0postgres\0database\0postgres\0\0"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(0.5)
        try:
            connection.connect(str(folder / f".s.PGSQL.{port}"))
            connection.sendall((len(body) + 4).to_bytes(4, "big") + body)
            answer = connection.recv(1024)
        except OSError:
            return False
    # R asks for the password; 57P03 is cannot_connect_now.
    return answer.startswith(b"R") or (answer.startswith(b"E") and b"C57P03" not in answer)


def _fits(folder: Path, port: int) -> bool:
    # A comma separates hosts in a connection URL.
    path = os.fsencode(folder / f".s.PGSQL.{port}")
    return len(path) <= SOCKET_PATH_LIMIT_BYTES and b"," not in path


def _is_private(folder: Path, owner: int) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
    return private and found.st_uid in (owner, os.geteuid())
