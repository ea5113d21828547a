"""The embedded PostgreSQL: a real server on a folder of its own. What is in the database is not its business.

It is durable (fsync and synchronous commit on, checksums on its pages), speaks only SCRAM, on a Unix socket
private to the user, and on 127.0.0.1 where a port is asked for.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

from countersign_cli.embedded.binaries import POSTGRES_MAJOR, postgres_binary
from countersign_cli.embedded.errors import EmbeddedError
from countersign_cli.embedded.leftover import end_leftover, runs_another_program
from countersign_cli.embedded.lone_server import LoneServer
from countersign_cli.embedded.postgres_socket import accepts_connections, socket_folder
from countersign_cli.embedded.server_user import ServerUser, before_exec, choose_server_user, give_to
from countersign_cli.embedded.specs import Program

_SOCKET_PORT = 5432  # names the socket file when there is no TCP port

# Written into postgresql.conf when the folder is made; the operator may change them there.
_TUNING = {
    "shared_buffers": "64MB",
    "max_connections": "120",
    "max_wal_size": "512MB",
    "io_method": "sync",  # the worker processes of the default serve large scans
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "password_encryption": "scram-sha-256",
}
if sys.platform == "linux":
    _TUNING["recovery_init_sync_method"] = "syncfs"  # after a crash: one call, not one for each of a thousand files

# On the command line at every start: what countersign relies on, whatever the file says.
_FIXED = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "logging_collector": "off"}

# Its whole environment; TZ spares initdb the search for the time zone.
_ENV = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

_STOP_SIGNALS = (signal.SIGINT, signal.SIGQUIT)  # fast, then immediate


class EmbeddedPostgres:
    """One server and its data folder.

    Args:
        folder: holds the cluster (`data/`), the socket and the log of a server started by `start`.
        port: the TCP port on 127.0.0.1; None listens on the Unix socket only.
        superuser_password: of the role `postgres`; set when the folder is first used, and needed ever after.
    """

    def __init__(self, folder: Path, port: int | None, superuser_password: str) -> None:
        self.folder = folder.absolute()
        self._port = port
        self._password = superuser_password
        self._data = self.folder / "data"
        self._user: ServerUser | None = None
        self._sockets: Path | None = None
        self._lone: LoneServer | None = None

    def program(self, name: str = "postgres") -> Program:
        """Checks the folder and says how a supervisor runs the server; its data is made in the child.

        Raises:
            EmbeddedError: it cannot run here; says why and what to do.
        """
        user, sockets = self._prepare()
        # The list of folders has a quoting of its own (a double quote is doubled).
        quoted = str(sockets).replace('"', '""')
        settings = {
            **_FIXED,
            "listen_addresses": "" if self._port is None else "127.0.0.1",
            "port": str(self._socket_port),
            "unix_socket_directories": f'"{quoted}"',
            "unix_socket_permissions": "0700",
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]

        def preexec() -> None:
            self._initialise(user)
            os.chdir(self.folder)
            user.enter()

        return Program(
            name=name,
            argv=[str(postgres_binary("postgres")), "-D", str(self._data), *options],
            env=_ENV,
            preexec=preexec,
            ready=self.ready,
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGTERM,  # "smart": when its last session has ended
            stop_seconds=20.0,
        )

    def start(self) -> None:
        """Starts the server without a supervisor; returns when it takes sessions.

        Raises:
            EmbeddedError: it cannot run here; says why and what to do.
        """
        if self._lone is not None and self._lone.running:
            return
        self._lone = LoneServer(self.program(), self.folder / "postgres.log")
        user, _ = self._prepare()
        self._initialise(user)
        self._lone.start(before_exec(user))

    def stop(self) -> None:
        """Stops the server that `start` started; returns when it has ended."""
        if self._lone is not None:
            self._lone.stop(_STOP_SIGNALS)
            self._lone = None

    def ready(self) -> bool:
        """Whether the server takes sessions now."""
        return self._sockets is not None and accepts_connections(self._sockets, self._socket_port)

    def dsn(self, role: str, password: str, database: str) -> str:
        """The connection URL, over the Unix socket, as libpq and asyncpg read it.

        Raises:
            EmbeddedError: as `start`.
        """
        _, sockets = self._prepare()
        who = f"{quote(role, safe='')}:{quote(password, safe='')}"
        host = quote(str(sockets), safe="")
        return f"postgresql://{who}@/{quote(database, safe='')}?host={host}&port={self._socket_port}"

    @property
    def _socket_port(self) -> int:
        return self._port or _SOCKET_PORT

    def _prepare(self) -> tuple[ServerUser, Path]:
        """Once: checks the version, finds the user to run as, makes the socket's folder."""
        if self._user is not None and self._sockets is not None:
            return self._user, self._sockets
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_version()
            user = choose_server_user(self.folder, postgres_binary("postgres"))
            sockets = socket_folder(self.folder, self._socket_port, user.uid)
            give_to(user, self.folder)
            give_to(user, sockets)
        except OSError as error:
            raise EmbeddedError(
                f"cannot keep PostgreSQL's data in {self.folder}: {error.strerror}; choose another --data-dir"
            ) from error
        self._user, self._sockets = user, sockets
        return user, sockets

    def _check_version(self) -> None:
        version = self._data / "PG_VERSION"
        found = version.read_text().strip() if version.exists() else str(POSTGRES_MAJOR)
        if found != str(POSTGRES_MAJOR):
            raise EmbeddedError(
                f"{self._data} holds data of PostgreSQL {found}, and this countersign runs {POSTGRES_MAJOR}: "
                f"dump it with a countersign that runs {found}, or choose another --data-dir"
            )

    def _initialise(self, user: ServerUser) -> None:
        """Makes the cluster if there is none, and clears what a killed run left."""
        if self._data.exists():
            self._clear_leftovers()
            return
        # Made aside and moved into place, so that an interrupted initdb is never taken for a cluster.
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        password = self.folder / "initdb.password"
        password.unlink(missing_ok=True)
        try:
            password.touch(mode=0o600, exist_ok=False)
            password.write_text(f"{self._password}\n")
            os.chown(password, user.uid, user.gid)
            self._initdb(user, fresh, password)
        finally:
            password.unlink(missing_ok=True)
        fresh.rename(self._data)

    def _initdb(self, user: ServerUser, fresh: Path, password: Path) -> None:
        tuning = [word for key, value in _TUNING.items() for word in ("--set", f"{key}={value}")]

        made = subprocess.run(
            [
                *(postgres_binary("initdb"), "--pgdata", fresh),
                *("--username", "postgres", "--pwfile", password),
                *("--auth", "scram-sha-256", "--data-checksums", "--encoding", "UTF8", "--locale", "C"),
                *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--no-instructions"),
                *tuning,
            ],
            env=_ENV,
            cwd=self.folder,
            preexec_fn=before_exec(user),
            capture_output=True,
            check=False,
        )
        if made.returncode != 0:
            lines = made.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise EmbeddedError(f"cannot make PostgreSQL's data in {self.folder}: {lines[-1]}")

    def _clear_leftovers(self) -> None:
        """Ends a server left by an earlier run. Forgets a process number that now belongs to another program,
        which PostgreSQL would take for a running server; all other stale files it clears itself."""
        lock = self._data / "postmaster.pid"
        try:
            pid = int(lock.read_text().splitlines()[0])
        except (OSError, ValueError, IndexError):
            return
        end_leftover(pid, "postgres", str(self._data), _STOP_SIGNALS)
        if runs_another_program(pid, "postgres"):
            lock.unlink(missing_ok=True)
            if self._sockets is not None:
                (self._sockets / f".s.PGSQL.{self._socket_port}.lock").unlink(missing_ok=True)
