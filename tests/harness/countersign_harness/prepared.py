"""What all stacks of a session have in common, made once: keys, identities and streams; roles, schemas and tables."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import asyncpg

from countersign_chassis.database import Database
from countersign_cli.bootstrap import Layout, apply_topology, prepare_database, prepare_material
from countersign_cli.bootstrap.database import DATABASE, role_of
from countersign_cli.embedded.nats import EmbeddedNats
from countersign_cli.embedded.postgres import EmbeddedPostgres
from countersign_contracts.event import SERVICES

SUPERUSER_PASSWORD = "for-tests-only"
_MIGRATED = f"{DATABASE}_migrated"
#: A comment on the database: its schemas are all that a stack has changed in it, and its roles' passwords are ours.
_OURS = "prepared"
#: Ends whoever is connected still, and makes every service's schema anew: a sixth of the cost of another database.
_EMPTY = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();
DO $$ DECLARE service record; BEGIN
  FOR service IN SELECT n.oid, n.nspname, r.rolname FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
    WHERE n.nspname = ANY (string_to_array('SERVICES', ',')) AND EXISTS (
      SELECT FROM pg_depend d WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid)
  LOOP
    EXECUTE format('DROP SCHEMA %I CASCADE', service.nspname);
    EXECUTE format('CREATE SCHEMA %I AUTHORIZATION %I', service.nspname, service.rolname);
  END LOOP;
END $$;
""".replace("SERVICES", ",".join(SERVICES))


class Prepared:
    """One deployment, to be copied: into data folders, and into databases."""

    def __init__(self, folder: Path) -> None:
        self._layout = Layout(folder)
        prepare_material(self._layout, nats_host="127.0.0.1", nats_port=-1, ports_file_dir=self._layout.nats)
        self._migrated: set[Path] = set()
        server = EmbeddedNats(self._layout.nats_config, self._layout.nats)
        server.start()
        asyncio.run(apply_topology(str(server.url()), self._layout))
        server.stop()  # by itself, so that all of it is on the disk

    def copy_to(self, layout: Layout) -> dict[str, str]:
        """Make the data folder with everything that bootstrap makes, the streams too; returns the roles' passwords."""
        shutil.copytree(self._layout.root, layout.root, dirs_exist_ok=True)
        config = layout.nats_config.read_text()
        layout.nats_config.write_text(config.replace(str(self._layout.root), str(layout.root)))
        passwords: dict[str, str] = json.loads(layout.postgres_passwords.read_text())
        return passwords

    async def make_database(self, postgres: EmbeddedPostgres, *, migrated: bool) -> None:
        """Make the product's database as bootstrap does: the roles, and for each an empty schema.

        With ``migrated`` the schemas hold what the services' own migrations make, which run once for each server.
        """
        passwords: dict[str, str] = json.loads(self._layout.postgres_passwords.read_text())
        if not migrated and await _emptied(postgres):
            return
        admin = await asyncpg.connect(_superuser(postgres, "postgres"))
        await admin.execute(f'DROP DATABASE IF EXISTS "{DATABASE}" WITH (FORCE)')
        if migrated:
            if postgres.folder not in self._migrated:
                await self._migrate(postgres, passwords)
                self._migrated.add(postgres.folder)
            await admin.execute(f'CREATE DATABASE "{DATABASE}" TEMPLATE "{_MIGRATED}"')
            await admin.execute(f'REVOKE ALL ON DATABASE "{DATABASE}" FROM PUBLIC')
        await prepare_database(_superuser(postgres, "postgres"), _superuser(postgres, DATABASE), passwords)
        if not migrated:
            await admin.execute(f"COMMENT ON DATABASE \"{DATABASE}\" IS '{_OURS}'")
        await admin.close()

    async def _migrate(self, postgres: EmbeddedPostgres, passwords: dict[str, str]) -> None:
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


async def _emptied(postgres: EmbeddedPostgres) -> bool:
    """Make what the last stack left empty; False if there is no database, or another than an earlier stack of ours."""
    try:
        connection = await asyncpg.connect(_superuser(postgres, DATABASE))
    except asyncpg.InvalidCatalogNameError:
        return False
    try:
        said = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
        if await connection.fetchval(said) != _OURS:
            return False
        await connection.execute(_EMPTY)
        return True
    finally:
        await connection.close()


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
