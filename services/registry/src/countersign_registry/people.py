"""People: their roles and tokens. A token is kept as its SHA-256 alone, and shown once."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from countersign_chassis import Connection
from countersign_contracts.command import Done
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.fleet import PersonChanged, PersonRecord
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now
from countersign_contracts.people_commands import AddPerson, IssuedToken, ListPeople, People, PersonView, RemovePerson

from .aftermath import Aftermath
from .nats_users import read_secret
from .outbox import Outbox
from .people_store import PeopleStore

#: The person whose token is a file of the deployment; who can write that file administers it.
ADMIN = "admin"
MIN_TOKEN_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class PersonChange:
    """A person as they will be, and what is told."""

    record: PersonRecord
    event: PersonChanged


def change_person(
    known: PersonRecord | None, wanted: PersonRecord, by: str, at: datetime, event: str
) -> PersonChange | None:
    """The change from ``known`` to ``wanted`` (whose revision does not count); None if they are the same."""
    revision = 1 if known is None else known.revision
    if known is not None and wanted.model_copy(update={"revision": revision}) == known:
        return None
    record = wanted.model_copy(update={"revision": 1 if known is None else revision + 1})
    told = PersonChanged(person=record.name, roles=record.roles, status=record.status, by=by, at=at, event=event)
    return PersonChange(record, told)


def not_admin(name: str, path: Path) -> None:
    """Raises `conflict` for the person whose token is the file at ``path``."""
    if name == ADMIN:
        raise CountersignError(
            f"`{ADMIN}` is whoever has the token in {path}, with role admin; write another token there and restart the"
            " registry to void the old one",
            code="conflict",
        )


def token_hash(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


class PeopleCommands:
    """Answers the commands about people."""

    def __init__(
        self, store: PeopleStore, outbox: Outbox, aftermath: Aftermath, admin_token_file: Path, log: Any
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._aftermath = aftermath
        self._admin_token_file = admin_token_file
        self._log = log

    async def ensure_admin(self) -> None:
        """Make the deployment's token file the token of person `admin`.

        Raises :class:`CountersignError` if the file cannot be read, or holds no token.
        """
        token = read_secret(self._admin_token_file, "admin token")
        if len(token) < MIN_TOKEN_CHARACTERS or len(token.split()) != 1:
            raise CountersignError(
                f"{self._admin_token_file} holds no token: one word of {MIN_TOKEN_CHARACTERS} characters at least"
            )
        wanted = PersonRecord(name=ADMIN, roles=("admin",), token_sha256=token_hash(token), revision=1)
        async with self._store.transaction() as connection:
            if await self._change(connection, wanted, "registry"):
                self._log.info("person `admin` has the token of the admin token file")

    async def add(self, command: AddPerson) -> IssuedToken:
        """Add a person, or give a known one (a removed one too) a new token and roles; the old token is void."""
        not_admin(command.name, self._admin_token_file)
        token = f"csp_{secrets.token_urlsafe(32)}"
        wanted = PersonRecord(
            name=command.name,
            roles=tuple(dict.fromkeys(command.roles)),
            token_sha256=token_hash(token),
            revision=1,
        )
        async with self._store.transaction() as connection:
            changed = await self._change(connection, wanted, command.by)
        revision = 1 if changed is None else changed.revision
        await self._aftermath.of(within_s=command.rpc.timeout_s - 1, people=[command.name])
        return IssuedToken(name=command.name, roles=wanted.roles, token=token, revision=revision)

    async def remove(self, command: RemovePerson) -> Done:
        """Void a person's token. Again is harmless.

        Raises `not_found`, and :class:`Unavailable` if it is committed and the gateways are not told yet.
        """
        not_admin(command.name, self._admin_token_file)
        async with self._store.transaction() as connection:
            known = await self._store.lock(connection, command.name)
            if known is None:
                raise CountersignError(
                    f"there is no person `{command.name}`; `countersign people list` shows them", code="not_found"
                )
            await self._change(connection, known.model_copy(update={"status": "removed"}), command.by)
        behind = await self._aftermath.of(within_s=command.rpc.timeout_s - 1, people=[command.name])
        if behind:
            raise Unavailable(
                f"`{command.name}` is removed, and stays so; but their token may still be taken: {'; '.join(behind)}."
                " It is retried until it is not; the same order again waits for it"
            )
        return Done()

    async def list(self, _: ListPeople) -> People:
        """Everyone by name, removed ones too."""
        return People(
            items=tuple(
                PersonView(name=record.name, roles=record.roles, status=record.status, created_at=created_at)
                for record, created_at in await self._store.everyone()
            )
        )

    async def _change(self, connection: Connection, wanted: PersonRecord, by: str) -> PersonRecord | None:
        at = now()
        known = await self._store.lock(connection, wanted.name)
        change = change_person(known, wanted, by, at, prefixed("evt"))
        if change is None:
            return None
        await self._store.save(connection, change.record, at)
        await self._outbox.add(connection, [change.event])
        return change.record
