"""Make a backup, of a system that runs or of one that does not."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import asyncpg

from countersign_ledger import TrustBundle

from ..bootstrap import Layout
from ..bootstrap.database import DATABASE
from ..embedded.datadir import DataDir
from . import archive, database
from .archive import BackupError, Contents
from .sealing import read_passphrase, seal_keys

_OPEN = "SELECT state, count(*) AS n FROM gateway.action WHERE drive_at IS NOT NULL GROUP BY state ORDER BY state"
_HEAD = "SELECT seq, encode(hash, 'hex') AS hash FROM audit.entries ORDER BY seq DESC LIMIT 1"


def make_backup(data_dir: Path, target: Path, passphrase_file: Path | None) -> Contents:
    """Write ``target``; keys are in it if there is a passphrase to seal them with. Returns what it says of itself.

    The database is copied as of one moment. Checkpoints are copied before, so that none is later than the ledger.
    Raises :class:`BackupError` and what reading the folder raises.
    """
    folder, layout = DataDir(data_dir), Layout(data_dir.absolute())
    if target.exists():
        raise BackupError(f"{target} exists already; choose another name")
    if not target.absolute().parent.is_dir():
        raise BackupError(f"{target.absolute().parent} is no folder: make it first")
    password = database.passwords(layout)["postgres"]
    phrase = read_passphrase(passphrase_file) if passphrase_file is not None else None
    with (
        tempfile.TemporaryDirectory(prefix=".backup-", dir=target.absolute().parent) as temporary,
        database.server(folder, password) as (postgres, running),
    ):
        parts = Path(temporary)
        try:
            for source, name in (
                (layout.checkpoints, archive.CHECKPOINTS),
                (layout.trust, archive.TRUST),
                (layout.agents_account, archive.ACCOUNT),
            ):
                shutil.copyfile(source, parts / name)
            if phrase is not None:
                (parts / archive.KEYS).write_bytes(seal_keys(layout.root, phrase))
        except OSError as error:
            raise BackupError(f"cannot copy {error.filename}: {error.strerror}") from None
        deployment = TrustBundle.from_json(layout.trust.read_text()).deployment
        dsn = postgres.dsn("postgres", password, DATABASE)
        contents = asyncio.run(_database(dsn, password, parts, deployment=deployment, running=running))
        contents = replace(contents, sha256={part.name: archive.digest(part) for part in sorted(parts.iterdir())})
        archive.write(target, parts, contents)
    return contents


async def _database(dsn: str, password: str, parts: Path, *, deployment: str, running: bool) -> Contents:
    try:
        connection = await asyncpg.connect(dsn, timeout=10)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise BackupError(f"PostgreSQL does not answer: {error}; see `countersign status`") from None
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
            head = await connection.fetchrow(_HEAD)
            open_actions = {row["state"]: row["n"] for row in await connection.fetch(_OPEN)}
            await asyncio.to_thread(database.dump, dsn, password, snapshot, parts / archive.DUMP)
    except asyncpg.UndefinedTableError:
        raise BackupError("the database is not complete yet: wait until `countersign status` says ready") from None
    finally:
        await connection.close()
    return Contents(
        format=archive.FORMAT,
        version=version("countersign-cli"),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        deployment=deployment,
        running=running,
        ledger_seq=head["seq"] if head else 0,
        ledger_hash=head["hash"] if head else "",
        open_actions=open_actions,
        sha256={},
    )
