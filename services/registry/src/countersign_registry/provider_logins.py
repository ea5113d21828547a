"""Logins with the OpenID provider: the code is exchanged here, and who it proves must be a person.

Whom an admin added keeps what the admin gave. Nobody else comes in, unless their groups at the provider are mapped to
roles: then they are added with exactly these, and have at each login what the groups say by then.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import datetime

from countersign_chassis import Connection
from countersign_contracts.errors import CountersignError, Refused
from countersign_contracts.fleet import PersonRecord
from countersign_contracts.logins import IssuedAccess
from countersign_contracts.provider_commands import DescribeProvider, LogInWithProvider, Provider

from . import id_tokens
from .codes_store import CodesStore
from .id_tokens import Expected, NotProven
from .logins import LoginCommands, LoginEnds
from .people import ADMIN, token_hash
from .people_store import PeopleStore
from .person_changes import PersonChanges
from .provider import OpenIdProvider
from .provider_store import ProviderStore
from .roles import RoleCommands

_BY = "provider"


class ProviderLogins:
    """Answers the commands about the provider."""

    def __init__(
        self,
        provider: OpenIdProvider | None,
        store: ProviderStore,
        people: PeopleStore,
        codes: CodesStore,
        changes: PersonChanges,
        roles: RoleCommands,
        ends: LoginEnds,
        logins: LoginCommands,
        *,
        person_claim: str,
        groups_claim: str | None,
        roles_of_groups: Mapping[str, tuple[str, ...]],
        clock: Callable[[], datetime],
    ) -> None:
        self._provider = provider
        self._store = store
        self._people = people
        self._codes = codes
        self._changes = changes
        self._roles = roles
        self._ends = ends
        self._logins = logins
        self._person_claim = person_claim
        self._groups_claim = groups_claim
        self._roles_of_groups = roles_of_groups
        self._clock = clock

    async def describe(self, _: DescribeProvider) -> Provider:
        """What clients are told."""
        return await self._configured().described()

    async def log_in(self, command: LogInWithProvider) -> IssuedAccess:
        """Start a login of the person whom the provider proves. Raises as the command says."""
        provider = self._configured()
        token = await provider.exchanged(command.proof)
        keys = await provider.keys(id_tokens.key_id(token))
        expected = Expected(provider.issuer, provider.client_id, command.proof.nonce)
        claims = id_tokens.read(token, keys, expected, self._clock())
        name = id_tokens.person_named(claims, self._person_claim)
        groups = id_tokens.groups_named(claims, self._groups_claim)
        async with self._people.transaction() as connection:
            person = await self._admitted(connection, name, groups)
            issued = None
            if isinstance(person, PersonRecord):
                if not await self._store.bind(connection, name, provider.issuer, claims["sub"]):
                    raise Refused(
                        f"{name} is known by another account of the provider; an admin lets this one in with"
                        f" `countersign people add {name}`"
                    )
                issued = await self._logins.start(connection, person, "provider")
        await self._changes.shown(name, 5)
        if isinstance(person, Refused) or issued is None:
            raise person if isinstance(person, Refused) else NotProven("nobody")
        return issued

    def _configured(self) -> OpenIdProvider:
        if self._provider is None:
            raise CountersignError(
                "no OpenID provider is configured (the registry's `oidc_issuer`); log in with your own token",
                code="not_found",
            )
        return self._provider

    async def _admitted(self, connection: Connection, name: str, groups: tuple[str, ...]) -> PersonRecord | Refused:
        """The person, locked. A refusal is returned, so that what it takes away is committed."""
        mapped = sorted({role for group in groups for role in self._roles_of_groups.get(group, ())})
        # the roles before the person, as wherever both are locked
        granted = await self._roles.granted(connection, mapped)
        known = await self._people.lock(connection, name)
        provisioned = known is not None and await self._store.provisioned(connection, name)
        if name == ADMIN:
            return Refused(f"`{ADMIN}` is whoever has the deployment's token file, and nobody at the provider")
        if known is not None and known.status == "active" and not provisioned:
            return known
        if known is not None and not provisioned:
            return Refused(f"`{name}` was removed; an admin adds them again")
        if not mapped:
            return await self._nobody(connection, name, known)
        wanted = PersonRecord(
            name=name,
            roles=tuple(mapped),
            granted=granted,
            token_sha256=token_hash(secrets.token_hex(32)) if known is None else known.token_sha256,
            groups=() if known is None else known.groups,
            channels=() if known is None else known.channels,
            totp=known is not None and known.totp,
            revision=1,
        )
        await self._changes.write(connection, known, wanted, _BY, self._clock())
        await self._store.set_provisioned(connection, name, True)
        return wanted

    async def _nobody(self, connection: Connection, name: str, known: PersonRecord | None) -> Refused:
        """Who is in no mapped group is no person; who was one by a group before is none any more."""
        if known is not None and known.status == "active":
            at = self._clock()
            nothing = {"status": "removed", "groups": (), "channels": (), "totp": False}
            await self._codes.forget(connection, name)
            await self._ends.all_of(connection, name, "removed", _BY, at)
            await self._changes.write(connection, known, known.model_copy(update=nothing), _BY, at)
        return Refused(
            f"the provider knows {name}, and Countersign does not: an admin adds them with"
            f" `countersign people add {name}`"
        )
