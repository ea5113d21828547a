"""One database, and in it a role and a schema for each service that no other role may enter."""

from __future__ import annotations

import asyncpg

from countersign_chassis.database import known_migrations, require_known
from countersign_contracts.event import SERVICES

DATABASE = "countersign"


def role_of(service: str) -> str:
    """The service's database role."""
    return f"countersign_{service}"


async def prepare_database(superuser_dsn: str, service_dsn_base: str, passwords: dict[str, str]) -> None:
    """Create what is missing. ``superuser_dsn`` is of database `postgres`, ``service_dsn_base`` of ours.

    Raises :class:`CountersignError` for a schema that a newer version made, before any service has touched its own.
    """
    admin = await asyncpg.connect(superuser_dsn)
    try:
        if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await admin.execute(f'CREATE DATABASE "{DATABASE}"')
            await admin.execute(f'REVOKE ALL ON DATABASE "{DATABASE}" FROM PUBLIC')
    finally:
        await admin.close()
    ours = await asyncpg.connect(service_dsn_base)
    try:
        await ours.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        for service in SERVICES:
            await _service(ours, service, passwords[service])
        for service in SERVICES:
            await _refuse_newer(ours, service)
    finally:
        await ours.close()


async def _service(ours: asyncpg.Connection[asyncpg.Record], service: str, password: str) -> None:
    role = role_of(service)
    if not await ours.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
        await ours.execute(f'CREATE ROLE "{role}" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE')
    quoted = await ours.fetchval("SELECT quote_literal($1)", password)
    await ours.execute(f'ALTER ROLE "{role}" PASSWORD {quoted}')
    await ours.execute(f'GRANT CONNECT ON DATABASE "{DATABASE}" TO "{role}"')
    await ours.execute(f'CREATE SCHEMA IF NOT EXISTS "{service}" AUTHORIZATION "{role}"')
    await ours.execute(f'ALTER ROLE "{role}" IN DATABASE "{DATABASE}" SET search_path = "{service}"')


async def _refuse_newer(ours: asyncpg.Connection[asyncpg.Record], service: str) -> None:
    if await ours.fetchval("SELECT to_regclass($1)", f"{service}.schema_migration") is not None:
        rows = await ours.fetch(f'SELECT version, name FROM "{service}".schema_migration')  # noqa: S608
        done = {row["version"]: row["name"] for row in rows}
        require_known(service, done, known_migrations(f"countersign_{service}"))
