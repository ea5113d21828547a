"""One change of a person: what is written, what is told, and that others see it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime

from countersign_chassis import Connection
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.event import Event
from countersign_contracts.fleet import PersonChanged, PersonRecord
from countersign_contracts.ids import prefixed
from countersign_contracts.people_commands import PersonView

from .aftermath import Aftermath
from .authority import require_all
from .outbox import Outbox
from .people_store import PeopleStore


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
    return PersonChange(record, change_told(record, by, at, event))


def change_told(record: PersonRecord, by: str, at: datetime, event: str) -> PersonChanged:
    """What is told of a person who is like that from now on."""
    return PersonChanged(
        person=record.name,
        roles=record.roles,
        granted=record.granted,
        status=record.status,
        groups=record.groups,
        channels=record.channels,
        totp=record.totp,
        revision=record.revision,
        by=by,
        at=at,
        event=event,
    )


class PersonChanges:
    """Shared by all commands about people."""

    def __init__(self, store: PeopleStore, outbox: Outbox, aftermath: Aftermath) -> None:
        self._store = store
        self._outbox = outbox
        self._aftermath = aftermath

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A connection inside a transaction."""
        return self._store.transaction()

    async def known(self, connection: Connection, name: str) -> PersonRecord:
        """That person, removed or not; nobody else changes them until the transaction ends. Raises `not_found`."""
        known = await self._store.lock(connection, name)
        if known is None:
            raise CountersignError(
                f"there is no person `{name}`; `countersign people list` shows them", code="not_found"
            )
        return known

    async def active(self, connection: Connection, name: str) -> PersonRecord:
        """As :meth:`known`; raises `not_found` for one who was removed too."""
        known = await self.known(connection, name)
        if known.status != "active":
            raise CountersignError(
                f"`{name}` was removed; `countersign people add {name} --role …` adds them again", code="not_found"
            )
        return known

    async def require_authority(self, connection: Connection, by: str, permissions: Iterable[str]) -> None:
        """Raises `forbidden` unless ``by`` is a person who may all of that themselves."""
        require_all(by, await self._store.find(connection, by), permissions)

    async def write(
        self, connection: Connection, known: PersonRecord | None, wanted: PersonRecord, by: str, at: datetime
    ) -> PersonRecord | None:
        """Write a locked person and the event that tells of it; None if nothing changes."""
        change = change_person(known, wanted, by, at, prefixed("evt"))
        if change is None:
            return None
        await self._store.save(connection, change.record, at)
        events: list[Event] = [change.event]
        await self._outbox.add(connection, events)
        return change.record

    async def view(self, connection: Connection, name: str) -> PersonView:
        """That person as others are shown them."""
        return await self._store.view(connection, name)

    async def shown(self, name: str, within_s: float) -> list[str]:
        """See to what follows a committed change; returns why others do not see it yet, if so."""
        return await self._aftermath.of(within_s=within_s, people=[name], logins=[name])

    async def require_shown(self, name: str, within_s: float, what: str) -> None:
        """As :meth:`shown`; raises :class:`Unavailable` if ``what`` was done and others do not see it yet."""
        behind = await self.shown(name, within_s)
        if behind:
            raise Unavailable(
                f"{what}, and stays so; but others may not have heard of it yet: {'; '.join(behind)}. It is retried"
                " until they have; the same order again waits for it"
            )
