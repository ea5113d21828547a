"""A deployment in containers or on several hosts: each service has a folder with what is its own, and nothing else.

The folder is laid out like the data folder of ``countersign up``, so that the same settings are made from it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import nats.errors

from countersign_chassis.tls import trusting
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.services import SERVICES

from .bootstrap import (
    Layout,
    Material,
    WrongSettings,
    apply_topology,
    build_service,
    prepare_database,
    service_settings,
)
from .bootstrap.database import DATABASE, role_of
from .embedded.datadir import write_secret

PGPASS = "pgpass"
SUPERUSER_PASSWORD = "postgres.password"  # noqa: S105  # the name of a file


def hand_out(material: Material, to: Path) -> None:
    """Write each service's part of the material into ``to/<service>``, the superuser's password into ``to/postgres``.

    What is there is written anew; what a service made itself stays.
    """
    root = material.layout.root
    for service in SERVICES:
        folder = to / service
        settings = service_settings(service, material.layout, nats_url="", postgres_dsn="")
        for source in (value for value in settings.values() if isinstance(value, Path)):
            target = folder / source.relative_to(root)
            (target if source.is_dir() else target.parent).mkdir(mode=0o700, parents=True, exist_ok=True)
            if source.is_file():
                write_secret(target, source.read_bytes())
        write_secret(folder / PGPASS, f"*:*:*:{role_of(service)}:{material.postgres_passwords[service]}\n")
    (to / "postgres").mkdir(mode=0o700, parents=True, exist_ok=True)
    write_secret(to / "postgres" / SUPERUSER_PASSWORD, material.postgres_passwords["postgres"] + "\n")


def settings_in(
    folder: Path,
    service: str,
    *,
    nats_url: str,
    postgres: str,
    postgres_ca: Path | None = None,
    elsewhere: Mapping[str, Path | None] | None = None,
) -> dict[str, Any]:
    """Keyword arguments for the service's ``Settings``, from its folder; ``postgres`` is ``host:port``.

    With ``postgres_ca`` PostgreSQL is spoken to over TLS, and its certificate and name are checked. ``elsewhere`` are
    settings of the service, if it has them, that are not in the folder.
    """
    who = f"{role_of(service)}:{quote(_password(folder / PGPASS), safe='')}"
    dsn = f"postgresql://{who}@{postgres}/{DATABASE}{verified(postgres_ca, '?')}"
    settings = service_settings(service, Layout(folder), nats_url=nats_url, postgres_dsn=dsn)
    settings |= {name: path for name, path in (elsewhere or {}).items() if path is not None and name in settings}
    if not Path(settings["signing_key_file"]).is_file():
        raise CountersignError(
            f"{folder} holds no key of the {service} service; `countersign bootstrap keys` writes one folder for each"
            " service, and --folder names the service's own"
        )
    return settings


def serve(service: str, settings: dict[str, Any]) -> int:
    """Run one service until a signal; what ``settings`` does not say is read from the environment.

    Raises :class:`CountersignError` if it cannot start.
    """
    from countersign_chassis.run import serve as run

    try:
        return run(lambda: build_service(service, settings))
    except WrongSettings as error:
        raise CountersignError(f"{service} cannot start with these settings: {error}") from None
    except CountersignError as error:
        raise CountersignError(f"{service} cannot start: {error.detail}", code=error.code) from None


def _password(pgpass: Path) -> str:
    """The role's password; empty where there is none to read, which PostgreSQL will refuse.

    Read here and not by the driver, which passes over a file that a group may read: in Kubernetes it must.
    """
    try:
        return pgpass.read_text().strip().rsplit(":", 1)[1]
    except (OSError, IndexError):
        return ""


def verified(postgres_ca: Path | None, joint: str) -> str:
    """The part of a DSN that asks for TLS, after ``joint``; empty without an authority. Raises if it is no such."""
    if postgres_ca is None:
        return ""
    trusting(postgres_ca)  # says what is wrong with the file in one line
    return f"{joint}sslmode=verify-full&sslrootcert={quote(str(postgres_ca), safe='/')}"


async def prepare_servers(
    layout: Layout,
    *,
    nats_url: str,
    postgres: str,
    within_s: float,
    replicas: int | None = None,
    nats_ca: Path | None = None,
    postgres_ca: Path | None = None,
) -> None:
    """Make roles, schemas, streams, consumers and buckets, once the servers answer; raises after ``within_s``.

    ``replicas`` is of how many nats-servers each stream has a copy; None leaves that as it is.
    """
    if not layout.postgres_passwords.is_file():
        raise CountersignError(f"{layout.root} holds no keys; `countersign bootstrap keys` makes them")
    passwords: dict[str, str] = json.loads(layout.postgres_passwords.read_text())
    tls = verified(postgres_ca, "?")
    superuser = f"postgresql://postgres:{passwords['postgres']}@{postgres}"
    await _once_it_answers(
        f"PostgreSQL at {postgres}",
        lambda: prepare_database(f"{superuser}/postgres{tls}", f"{superuser}/{DATABASE}{tls}", passwords),
        (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError),
        within_s,
    )
    await _once_it_answers(
        f"nats-server at {nats_url}",
        lambda: apply_topology(nats_url, layout, replicas=replicas, tls=trusting(nats_ca)),
        (OSError, nats.errors.NoServersError, nats.errors.TimeoutError, nats.errors.NoRespondersError, Unavailable),
        within_s,
    )


async def _once_it_answers(
    what: str, attempt: Callable[[], Awaitable[None]], away: tuple[type[Exception], ...], within_s: float
) -> None:
    deadline = time.monotonic() + within_s
    while True:
        try:
            return await attempt()
        except away as error:
            if time.monotonic() >= deadline:
                raise CountersignError(f"{what} did not answer within {within_s:.0f} s: {error}") from None
            await asyncio.sleep(0.5)
