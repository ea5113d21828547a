"""What all stacks of a session have in common, made once: keys and identities, and a database with every schema."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import asyncpg

from countersign_chassis.database import Database
from countersign_cli.bootstrap import Layout, prepare_database, prepare_material
from countersign_cli.bootstrap.database import DATABASE, role_of
from countersign_cli.embedded.postgres import EmbeddedPostgres
from countersign_contracts.event import SERVICES

SUPERUSER_PASSWORD = "for-tests-only"
_MIGRATED = f"{DATABASE}_migrated"


class Prepared:
    """One deployment, to be copied: into data folders, and into databases."""

    def __init__(self, folder: Path) -> None:
        self._layout = Layout(folder)
        prepare_material(self._layout, nats_host="127.0.0.1", nats_port=-1, ports_file_dir=self._layout.nats)
        self._migrated: set[Path] = set()

    def copy_to(self, layout: Layout) -> dict[str, str]:
        """Make the data folder with everything that bootstrap makes; returns the passwords of the roles."""
        shutil.copytree(self._layout.root, layout.root, dirs_exist_ok=True)
        config = layout.nats_config.read_text()
        layout.nats_config.write_text(config.replace(str(self._layout.root), str(layout.root)))
        passwords: dict[str, str] = json.loads(layout.postgres_passwords.read_text())
        return passwords

    async def make_database(self, postgres: EmbeddedPostgres) -> None:
        """Make the product's database with every service's schema, as the services' own migrations make it.

        They run once for each server; there is no such database yet, and its roles are given passwords.
        """
        if postgres.folder not in self._migrated:
            await self._migrate(postgres)
            self._migrated.add(postgres.folder)
        admin = await asyncpg.connect(_superuser(postgres, "postgres"))
        await admin.execute(f'CREATE DATABASE "{DATABASE}" TEMPLATE "{_MIGRATED}"')
        await admin.execute(f'REVOKE ALL ON DATABASE "{DATABASE}" FROM PUBLIC')
        await admin.close()

    async def _migrate(self, postgres: EmbeddedPostgres) -> None:
        passwords: dict[str, str] = json.loads(self._layout.postgres_passwords.read_text())
        await prepare_database(_superuser(postgres, "postgres"), _superuser(postgres, DATABASE), passwords)
        for service in SERVICES:
            dsn = postgres.dsn(role_of(service), passwords[service], DATABASE)
            database = Database(dsn, pool_max=1, name=service)
            await database.open()
            await database.migrate(f"countersign_{service}")
            await database.close()
        admin = await asyncpg.connect(_superuser(postgres, "postgres"))
        await admin.execute(f'ALTER DATABASE "{DATABASE}" RENAME TO "{_MIGRATED}"')
        await admin.close()


async def hash_passwords_fast(postgres: EmbeddedPostgres) -> None:
    """What a server hashes 4096 times, so that weak passwords are hard to guess: here once, since all are random."""
    superuser = await asyncpg.connect(_superuser(postgres, "postgres"))
    await superuser.execute("SET scram_iterations = 1")
    await superuser.execute("ALTER ROLE postgres SET scram_iterations = 1")
    await superuser.execute(f"ALTER ROLE postgres PASSWORD '{SUPERUSER_PASSWORD}'")
    await superuser.close()
    await asyncio.sleep(0)  # its socket closes


def _superuser(postgres: EmbeddedPostgres, database: str) -> str:
    return postgres.dsn("postgres", SUPERUSER_PASSWORD, database)
