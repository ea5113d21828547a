"""People and the administrator's token file, on real servers."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest

from countersign_chassis import Service
from countersign_contracts.envelope import open_event
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import PersonChanged
from countersign_contracts.people_commands import (
    AddPerson,
    IssuedToken,
    ListPeople,
    PersonView,
    RemovePerson,
    SetGroups,
)

if TYPE_CHECKING:
    from .conftest import Fleet


def sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


async def add(fleet: Fleet, name: str = "ann", *roles: str) -> IssuedToken:
    order = AddPerson.model_validate({"name": name, "roles": roles or ("operator",), "by": "admin"})
    issued: IssuedToken = await fleet.bus.ask(order)
    return issued


async def told(fleet: Fleet, count: int) -> list[PersonChanged]:
    """What was told of people, once it is that much."""

    async def there() -> bool:
        return len(await fleet.raw_events()) >= count

    await fleet.until(there)
    events = [open_event(one, fleet.stack.trust()) for _, one in await fleet.raw_events()]
    return [event for event in events if isinstance(event, PersonChanged)]


async def test_a_person_is_added_renewed_removed_and_added_again(fleet: Fleet, registry: Service) -> None:
    first = await add(fleet, "ann", "operator", "approver", "operator")
    assert first.token.startswith("csp_")
    shown = await fleet.shown_person("ann")
    assert (shown.token_sha256, shown.roles, shown.revision) == (sha256(first.token), ("operator", "approver"), 1)
    second = await add(fleet, "ann", "reader")
    shown = await fleet.shown_person("ann")
    assert (shown.token_sha256, shown.roles, shown.revision) == (sha256(second.token), ("reader",), 2)
    for _ in range(2):
        await fleet.bus.ask(RemovePerson(name="ann", by="admin"))
        shown = await fleet.shown_person("ann")
        assert (shown.status, shown.revision) == ("removed", 3)
    third = await add(fleet)
    shown = await fleet.shown_person("ann")
    assert (shown.status, shown.token_sha256, shown.revision) == ("active", sha256(third.token), 4)
    with pytest.raises(CountersignError, match="no person `bob`") as error:
        await fleet.bus.ask(RemovePerson(name="bob", by="admin"))
    assert error.value.code == "not_found"
    people = await fleet.bus.ask(ListPeople())
    assert [(p.name, p.status) for p in people.items] == [("admin", "active"), ("ann", "active")]
    assert people.next is None
    first = await fleet.bus.ask(ListPeople(limit=1))
    assert ([p.name for p in first.items], first.next) == (["admin"], "admin")
    rest = await fleet.bus.ask(ListPeople(limit=1, after=first.next))
    assert ([p.name for p in rest.items], rest.next) == (["ann"], None)
    events = await told(fleet, 5)
    assert [(e.person, e.status, e.by) for e in events] == [
        ("admin", "active", "registry"),
        ("ann", "active", "admin"),
        ("ann", "active", "admin"),
        ("ann", "removed", "admin"),
        ("ann", "active", "admin"),
    ]


async def test_groups_are_set_kept_with_a_new_token_and_gone_with_the_person(fleet: Fleet, registry: Service) -> None:
    await fleet.bus.ask(AddPerson(name="ann", roles=("approver",), groups=("security", "Payments Team"), by="admin"))
    assert (await fleet.shown_person("ann")).groups == ("Payments Team", "security")
    await add(fleet, "ann", "approver")
    assert (await fleet.shown_person("ann")).groups == ("Payments Team", "security")
    for _ in range(2):
        view: PersonView = await fleet.bus.ask(SetGroups(name="ann", groups=("b", "a", "b"), by="admin"))
        assert (view.groups, view.revision) == (("a", "b"), 3)
    assert ((await fleet.shown_person("ann")).groups, (await fleet.shown_person("ann")).revision) == (("a", "b"), 3)
    await fleet.bus.ask(AddPerson(name="ann", roles=("approver",), groups=(), by="admin"))
    assert (await fleet.shown_person("ann")).groups == ()
    await fleet.bus.ask(SetGroups(name="ann", groups=("c",), by="admin"))
    await fleet.bus.ask(RemovePerson(name="ann", by="admin"))
    with pytest.raises(CountersignError, match="`ann` was removed") as error:
        await fleet.bus.ask(SetGroups(name="ann", groups=("c",), by="admin"))
    assert error.value.code == "not_found"
    await add(fleet, "ann", "approver")
    assert (await fleet.shown_person("ann")).groups == ()
    events = [event for event in await told(fleet, 8) if event.person == "ann"]
    assert [(e.groups, e.status, e.revision) for e in events] == [
        (("Payments Team", "security"), "active", 1),
        (("Payments Team", "security"), "active", 2),
        (("a", "b"), "active", 3),
        ((), "active", 4),
        (("c",), "active", 5),
        ((), "removed", 6),
        ((), "active", 7),
    ]


async def test_admin_s_groups_outlive_a_start(fleet: Fleet) -> None:
    await fleet.run()
    await fleet.bus.ask(SetGroups(name="admin", groups=("security",), by="admin"))
    fleet.stack.layout.admin_token.write_text("y" * 40)
    await fleet.run()
    assert ((await fleet.shown_person("admin")).groups, (await fleet.shown_person("admin")).revision) == (
        ("security",),
        3,
    )


async def test_of_two_tokens_given_at_once_the_later_one_counts(fleet: Fleet, registry: Service) -> None:
    issued = await asyncio.gather(*(add(fleet) for _ in range(10)))
    assert sorted(one.revision for one in issued) == list(range(1, 11))
    last = max(issued, key=lambda one: one.revision)
    assert (await fleet.shown_person("ann")).token_sha256 == sha256(last.token)


async def test_admin_is_whoever_has_the_token_file(fleet: Fleet) -> None:
    file = fleet.stack.layout.admin_token
    await fleet.run()
    first = await fleet.shown_person("admin")
    assert (first.token_sha256, first.roles, first.revision) == (sha256(file.read_text().strip()), ("admin",), 1)
    await fleet.run()
    assert await fleet.shown_person("admin") == first
    file.write_text(f"  {'x' * 32}\n")
    await fleet.run()
    changed = await fleet.shown_person("admin")
    assert (changed.token_sha256, changed.revision) == (sha256("x" * 32), 2)
    assert [event.person for event in await told(fleet, 2)] == ["admin", "admin"]

    for order in (AddPerson(name="admin", roles=("reader",), by="ann"), RemovePerson(name="admin", by="ann")):
        with pytest.raises(CountersignError, match="`admin` is whoever has the token in") as error:
            await fleet.bus.ask(order)
        assert error.value.code == "conflict"


async def test_a_token_file_without_a_token_stops_the_start_with_one_clear_line(fleet: Fleet) -> None:
    file = fleet.stack.layout.admin_token
    for content in ("", "short\n", "x" * 40 + " and more", None):
        if content is None:
            file.unlink()
        else:
            file.write_text(content)
        registry = fleet.stack.build("registry")
        with pytest.raises(CountersignError, match=rf"{file}") as error:
            await registry.start()
        assert "\n" not in error.value.detail
        await registry.stop()
