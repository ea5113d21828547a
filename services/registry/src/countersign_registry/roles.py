"""Declared roles: listed, written with a declared change, removed; and what follows for the people who have them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from countersign_chassis import Connection
from countersign_contracts.command import Done
from countersign_contracts.custom_roles import ListRoles, RemoveRole, Role, RoleChanged, Roles, RoleView
from countersign_contracts.errors import CountersignError
from countersign_contracts.event import Event
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now
from countersign_contracts.roles import MEANT_FOR, PERMISSIONS

from .outbox import Outbox
from .people_store import PeopleStore
from .person_changes import PersonChanges, change_told
from .role_store import RoleStore

#: How many people a refusal names.
_NAMED = 5


class RoleChanges:
    """Writes roles, and tells of them and of everyone whom they change."""

    def __init__(self, store: RoleStore, people: PeopleStore, outbox: Outbox) -> None:
        self._store = store
        self._people = people
        self._outbox = outbox

    async def write(
        self, connection: Connection, roles: Sequence[Role], before: dict[str, Role], by: str, at: datetime, event: str
    ) -> list[str]:
        """Write locked (or new) roles; returns the names of the people whose permissions that changes."""
        told: list[Event] = []
        for role in roles:
            await self._store.save(connection, role)
            told.append(
                RoleChanged(
                    name=role.name,
                    before=before[role.name].terms() if role.name in before else None,
                    role=role.terms(),
                    by=by,
                    at=at,
                    event=f"{event}.{role.name}",
                )
            )
        names = await self._store.who(connection, [role.name for role in roles])
        for name in names:  # by name, so that two changes never wait for one another
            await self._people.lock(connection, name)
            await self._store.moved(connection, name)
            person = await self._people.find(connection, name)
            if person is not None:
                told.append(change_told(person, by, at, prefixed("evt")))
        await self._outbox.add(connection, told)
        return names


class RoleCommands:
    """Answers the commands about roles."""

    def __init__(self, store: RoleStore, changes: PersonChanges, outbox: Outbox) -> None:
        self._store = store
        self._changes = changes
        self._outbox = outbox

    async def granted(self, connection: Connection, names: Sequence[str]) -> tuple[str, ...]:
        """What those of these roles allow that are not built in; they stay so until the transaction ends.

        Raises `invalid` for one that there is not.
        """
        declared = await self._store.held(connection, names)
        unknown = [name for name in names if name not in PERMISSIONS and name not in declared]
        if unknown:
            every = ", ".join([*PERMISSIONS, *(role.name for role in (await self._store.every())[0])])
            raise CountersignError(
                f"roles: `{unknown[0]}` is no role; there are {every}; others are declared (kind: role)", code="invalid"
            )
        return tuple(sorted({allowed for role in declared.values() for allowed in role.permissions}))

    async def list(self, _: ListRoles) -> Roles:
        """Every role, the built-in ones first."""
        declared, people = await self._store.every()
        built_in = [
            RoleView(
                name=name,
                description=MEANT_FOR[name],
                permissions=tuple(sorted(allowed)),
                built_in=True,
                people=people.get(name, 0),
            )
            for name, allowed in PERMISSIONS.items()
        ]
        others = [
            RoleView(
                name=role.name,
                description=role.description,
                permissions=role.permissions,
                built_in=False,
                people=people.get(role.name, 0),
            )
            for role in declared
        ]
        return Roles(items=(*built_in, *others))

    async def remove(self, command: RemoveRole) -> Done:
        """There is no such role any more. Raises as the command says."""
        name = command.name
        if name in PERMISSIONS:
            raise CountersignError(f"role `{name}` is built in and stays", code="conflict")
        async with self._changes.transaction() as connection:
            role = (await self._store.lock(connection, [name])).get(name)
            if role is None:
                raise CountersignError(
                    f"there is no role `{name}`; `countersign people roles` shows them", code="not_found"
                )
            await self._changes.require_authority(connection, command.by, {"people", *role.permissions})
            if who := await self._store.who(connection, [name]):
                named = ", ".join(who[:_NAMED]) + (f" and {len(who) - _NAMED} more" if len(who) > _NAMED else "")
                raise CountersignError(
                    f"{named} {'has' if len(who) == 1 else 'have'} role `{name}`: give them others first, with"
                    " `countersign people add`, or remove them",
                    code="conflict",
                )
            await self._store.remove(connection, name)
            await self._outbox.add(connection, [RoleChanged(name=name, before=role.terms(), by=command.by, at=now())])
        self._outbox.wake()
        return Done()
