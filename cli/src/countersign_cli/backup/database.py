"""The single host's PostgreSQL, running or not, and the programs that dump and restore it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from ..bootstrap import Layout
from ..embedded.binaries import postgres_binary
from ..embedded.datadir import DataDir, write_secret
from ..embedded.postgres import EmbeddedPostgres
from .archive import BackupError


def passwords(layout: Layout) -> dict[str, str]:
    """Of the database's roles. Raises :class:`BackupError` where there is no system."""
    try:
        found: dict[str, str] = json.loads(layout.postgres_passwords.read_text())
    except OSError:
        raise BackupError(f"{layout.root} holds no system of Countersign; --data-dir names the folder of one") from None
    return found


@contextmanager
def server(folder: DataDir, password: str) -> Iterator[tuple[EmbeddedPostgres, bool]]:
    """The folder's PostgreSQL; the second value: whether `countersign up` runs on it. It is started if it is not."""
    if folder.holder() is not None:
        yield EmbeddedPostgres(folder.postgres, _port(folder.postgres / "data" / "postmaster.pid"), password), True
        return
    folder.lock()
    lone = EmbeddedPostgres(folder.postgres, None, password)
    try:
        lone.start()
        yield lone, False
    finally:
        lone.stop()
        folder.unlock()


def _port(file: Path) -> int | None:
    """On which port, which names its socket too, the running server listens: the fourth line says so."""
    try:
        return int(file.read_text().splitlines()[3])
    except (OSError, ValueError, IndexError):
        raise BackupError("PostgreSQL does not run; wait until `countersign status` says that all is ready") from None


def dump(dsn: str, password: str, snapshot: str, target: Path) -> None:
    """Everything in the database, as of one snapshot, compressed. Raises :class:`BackupError`."""
    _run("pg_dump", dsn, password, f"--snapshot={snapshot}", "--format=custom", f"--file={target}")


def restore(dsn: str, password: str, source: Path) -> None:
    """All of a dump or nothing. Raises :class:`BackupError`."""
    _run("pg_restore", dsn, password, "--single-transaction", "--exit-on-error", str(source))


def _run(program: str, dsn: str, password: str, *arguments: str) -> None:
    url = urlsplit(dsn)
    asked = parse_qs(url.query)
    to = [f"--host={asked['host'][0]}", f"--port={asked['port'][0]}", "--username=postgres", "--no-password"]
    with tempfile.TemporaryDirectory(prefix="countersign-") as private:
        passfile = Path(private) / "pgpass"
        write_secret(passfile, f"*:*:*:postgres:{password}\n")
        done = subprocess.run(
            [str(postgres_binary(program)), *to, f"--dbname={url.path.removeprefix('/')}", *arguments],
            env={"PGPASSFILE": str(passfile), "LC_ALL": "C", "PGOPTIONS": "-c statement_timeout=0"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise BackupError(f"{program} failed: {next((line for line in lines if 'error' in line), lines[-1])}")
