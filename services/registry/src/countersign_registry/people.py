"""People: their roles, groups and tokens. A token is kept as its SHA-256 alone, and shown once."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from countersign_contracts.command import Done
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import PersonRecord
from countersign_contracts.model import now
from countersign_contracts.people_commands import (
    AddPerson,
    IssuedToken,
    ListPeople,
    People,
    PersonView,
    RemovePerson,
    SetGroups,
    SetRoles,
)

from .codes_store import CodesStore
from .fresh_logins import FreshLogins
from .logins import LoginEnds
from .nats_users import read_secret
from .people_store import PeopleStore
from .person_changes import PersonChanges
from .provider_store import ProviderStore
from .roles import RoleCommands

#: The person whose token is a file of the deployment; who can write that file administers it.
ADMIN = "admin"
MIN_TOKEN_CHARACTERS = 32


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


def renewed(known: PersonRecord | None, wanted: PersonRecord, groups: Iterable[str] | None) -> PersonRecord:
    """``wanted`` with the groups given and what ``known`` keeps: of who was removed, nothing is left."""
    if known is None:
        return wanted.model_copy(update={"groups": in_order(groups or ())})
    kept = {
        "groups": known.groups if groups is None else in_order(groups),
        "channels": known.channels,
        "totp": known.totp,
    }
    return wanted.model_copy(update=kept)


def _present(known: PersonRecord | None) -> frozenset[str]:
    """What a person may now."""
    return frozenset() if known is None or known.status != "active" else known.permissions


def in_order(groups: Iterable[str]) -> tuple[str, ...]:
    """Each group once, by name."""
    return tuple(sorted(set(groups)))


class PeopleCommands:
    """Answers the commands about people."""

    def __init__(
        self,
        store: PeopleStore,
        codes: CodesStore,
        roles: RoleCommands,
        providers: ProviderStore,
        ends: LoginEnds,
        changes: PersonChanges,
        fresh: FreshLogins,
        admin_token_file: Path,
        log: Any,
    ) -> None:
        self._store = store
        self._codes = codes
        self._roles = roles
        self._providers = providers
        self._ends = ends
        self._changes = changes
        self._fresh = fresh
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
        at = now()
        async with self._store.transaction() as connection:
            known = await self._store.lock(connection, ADMIN)
            if await self._changes.write(connection, known, renewed(known, wanted, None), "registry", at):
                await self._ends.all_of(connection, ADMIN, "replaced", "registry", at)
                self._log.info("person `admin` has the token of the admin token file")

    async def add(self, command: AddPerson) -> IssuedToken:
        """Add a person, or give a known one (a removed one too) a new token and roles.

        The old token is void, and so are the logins that it, or another proof, started.
        """
        not_admin(command.name, self._admin_token_file)
        token = f"csp_{secrets.token_urlsafe(32)}"
        at = now()
        async with self._store.transaction() as connection:
            await self._fresh.require(connection, command.by, command.login_id)
            wanted = PersonRecord(
                name=command.name,
                roles=tuple(dict.fromkeys(command.roles)),
                granted=await self._roles.granted(connection, command.roles),
                token_sha256=token_hash(token),
                revision=1,
            )
            known = await self._store.lock(connection, command.name)
            await self._changes.require_authority(connection, command.by, wanted.permissions | _present(known))
            changed = await self._changes.write(
                connection, known, renewed(known, wanted, command.groups), command.by, at
            )
            await self._ends.all_of(connection, command.name, "replaced", command.by, at)
            await self._providers.taken_over(connection, command.name)
        revision = 1 if changed is None else changed.revision
        await self._changes.shown(command.name, command.rpc.timeout_s - 1)
        return IssuedToken(name=command.name, roles=wanted.roles, token=token, revision=revision)

    async def remove(self, command: RemovePerson) -> Done:
        """Void a person's token, logins, groups, channel identities and one-time codes. Again is harmless.

        Raises `not_found`, and :class:`Unavailable` if it is committed and the gateways are not told yet.
        """
        not_admin(command.name, self._admin_token_file)
        at = now()
        nothing = {"status": "removed", "groups": (), "channels": (), "totp": False}
        async with self._store.transaction() as connection:
            known = await self._changes.known(connection, command.name)
            await self._changes.require_authority(connection, command.by, _present(known))
            await self._codes.forget(connection, command.name)
            await self._ends.all_of(connection, command.name, "removed", command.by, at)
            await self._providers.taken_over(connection, command.name)
            await self._changes.write(connection, known, known.model_copy(update=nothing), command.by, at)
        await self._changes.require_shown(
            command.name,
            command.rpc.timeout_s - 1,
            f"`{command.name}` is removed",
        )
        return Done()

    async def set_roles(self, command: SetRoles) -> PersonView:
        """Give a person these roles and no others; raises as :meth:`add` and :meth:`remove` do."""
        not_admin(command.name, self._admin_token_file)
        async with self._store.transaction() as connection:
            granted = await self._roles.granted(connection, command.roles)
            known = await self._changes.active(connection, command.name)
            wanted = known.model_copy(update={"roles": tuple(dict.fromkeys(command.roles)), "granted": granted})
            await self._changes.require_authority(connection, command.by, wanted.permissions | _present(known))
            await self._changes.write(connection, known, wanted, command.by, now())
            await self._providers.set_provisioned(connection, command.name, False)
            view = await self._changes.view(connection, command.name)
        await self._changes.require_shown(
            command.name, command.rpc.timeout_s - 1, f"the roles of `{command.name}` are set"
        )
        return view

    async def set_groups(self, command: SetGroups) -> PersonView:
        """Put a person into these groups and no others; raises `not_found`, and as :meth:`remove` does."""
        async with self._store.transaction() as connection:
            known = await self._changes.active(connection, command.name)
            await self._changes.require_authority(connection, command.by, _present(known))
            wanted = known.model_copy(update={"groups": in_order(command.groups)})
            await self._changes.write(connection, known, wanted, command.by, now())
            view = await self._changes.view(connection, command.name)
        await self._changes.require_shown(
            command.name, command.rpc.timeout_s - 1, f"the groups of `{command.name}` are set"
        )
        return view

    async def list(self, command: ListPeople) -> People:
        """A page of people by name, removed ones too."""
        found = await self._store.page(command.after or "", command.limit + 1)
        items = tuple(found[: command.limit])
        return People(items=items, next=items[-1].name if len(found) > command.limit else None)
