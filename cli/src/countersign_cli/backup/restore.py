"""Make a system of a backup, in a folder that holds none. The folder appears complete, or not at all."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import asyncpg

from countersign_chassis.database import Database
from countersign_contracts.control import Stop, StopSet
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now
from countersign_executor.control_store import ControlStore
from countersign_ledger import SigningKey, TrustBundle

from ..bootstrap import Layout, prepare_database
from ..bootstrap.database import DATABASE, role_of
from ..embedded.datadir import DataDir
from ..embedded.postgres import EmbeddedPostgres
from . import archive, database
from .archive import BackupError, Contents
from .sealing import MEMBERS, open_keys, read_passphrase

_EMPTY_SCHEMAS = """
SELECT nspname FROM pg_namespace WHERE pg_get_userbyid(nspowner) LIKE 'countersign\\_%'
"""
STOPPED_BY = "restore"


def restore_backup(
    source: Path, data_dir: Path, *, passphrase_file: Path | None, keys_from: Path | None, nothing_since: bool
) -> Contents:
    """Put the system of ``source`` into ``data_dir``; `countersign up` then runs it. Returns what the backup says.

    Keys come out of the backup with the passphrase, or from the folder ``keys_from`` (a copy of the data folder, or of
    the keys in it). Unless nothing was executed since the backup was made, a stop on everything is in force: what had
    not ended then may have been executed since. Raises :class:`BackupError`.
    """
    target = data_dir.absolute()
    if target.exists() and any(target.iterdir()):
        raise BackupError(f"{target} is not empty: restore into a new folder, and move it into place then")
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".backup-", dir=target.parent) as unpacked,
        tempfile.TemporaryDirectory(prefix=".restore-", dir=target.parent) as built,
    ):
        parts = Path(unpacked)
        contents = archive.read(source, parts)
        folder = DataDir(Path(built) / "system")
        folder.create()
        layout = Layout(folder.root)
        layout.make()
        _files(parts, layout, contents, passphrase_file, keys_from)
        _require_its_keys(layout, contents)
        passwords = database.passwords(layout)
        with database.server(folder, passwords["postgres"]) as (postgres, _):
            asyncio.run(_fill(postgres, passwords, parts / archive.DUMP, None if nothing_since else _stop(contents)))
        if target.exists():
            target.rmdir()
        folder.root.replace(target)
    return contents


def _files(parts: Path, layout: Layout, contents: Contents, passphrase: Path | None, keys_from: Path | None) -> None:
    for name, to in (
        (archive.TRUST, layout.trust),
        (archive.CHECKPOINTS, layout.checkpoints),
        (archive.ACCOUNT, layout.agents_account),
    ):
        shutil.copyfile(parts / name, to)
    layout.agents_account.chmod(0o600)
    if keys_from is not None:
        for name in MEMBERS:
            _copy(keys_from / name, layout.root / name)
    elif not contents.has_keys:
        raise BackupError(
            "the keys are not in this backup: --keys names the folder that they were copied to"
            f" ({', '.join(MEMBERS)} of the data folder)"
        )
    elif passphrase is None:
        raise BackupError("the keys in this backup are sealed: --passphrase-file names the file with the passphrase")
    else:
        open_keys((parts / archive.KEYS).read_bytes(), read_passphrase(passphrase), layout.root)


def _copy(source: Path, target: Path) -> None:
    try:
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)
            target.chmod(0o600)
    except OSError as error:
        raise BackupError(f"cannot copy {source}: {error.strerror}") from None


def _require_its_keys(layout: Layout, contents: Contents) -> None:
    """Keys of another deployment would sign a ledger that nobody believes."""
    trust = TrustBundle.from_json(layout.trust.read_text())
    for service in {key.service for key in trust.keys.values()}:
        try:
            key = SigningKey.from_json(layout.signing_key(service).read_text())
        except OSError:
            raise BackupError(f"the key of the {service} service is missing among the keys") from None
        if key.kid not in trust.keys:
            raise BackupError(
                f"the key of the {service} service is not of this backup's deployment ({contents.deployment})"
            )


def _stop(contents: Contents) -> Stop:
    return Stop(
        stop_id=prefixed("stp"),
        scope="all",
        reason=f"restored from the backup of {contents.made_at}: what was open then may have been executed since",
        set_by=STOPPED_BY,
        set_at=now(),
    )


async def _fill(postgres: EmbeddedPostgres, passwords: dict[str, str], dump: Path, stop: Stop | None) -> None:
    password = passwords["postgres"]
    ours = postgres.dsn("postgres", password, DATABASE)
    await prepare_database(postgres.dsn("postgres", password, "postgres"), ours, passwords)
    connection = await asyncpg.connect(ours)
    try:
        for row in await connection.fetch(_EMPTY_SCHEMAS):  # the dump makes them, with all they hold
            await connection.execute(f'DROP SCHEMA "{row["nspname"]}"')
    finally:
        await connection.close()
    await asyncio.to_thread(database.restore, ours, password, dump)
    if stop is not None:
        executor = Database(
            postgres.dsn(role_of("executor"), passwords["executor"], DATABASE), pool_max=1, name="restore"
        )
        await executor.open()
        try:
            store = ControlStore(executor)
            async with store.transaction() as transaction:
                await store.set_stop(transaction, stop)
                await store.announce(transaction, StopSet(stop=stop))
        finally:
            await executor.close()
