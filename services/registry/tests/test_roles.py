"""Declared roles, on real servers: what their people may follows at once, and nobody gives what they do not have."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from countersign_chassis import Service
from countersign_contracts.catalogue import Document
from countersign_contracts.command import Command
from countersign_contracts.commands import ChangePlan, CommitAgents, PrepareAgents
from countersign_contracts.custom_roles import ListRoles, RemoveRole, Role, RoleChanged
from countersign_contracts.documents import read_documents
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import PersonChanged, PersonRecord
from countersign_contracts.ids import prefixed
from countersign_contracts.people_commands import (
    AddPerson,
    RemoveChannel,
    RemovePerson,
    RemoveTotp,
    SetGroups,
    SetRoles,
)
from countersign_registry import role_declarations

if TYPE_CHECKING:
    from .conftest import Fleet


def files(*roles: tuple[str, str]) -> tuple[Document, ...]:
    text = "---\n".join(
        f"kind: role\nname: {name}\ndescription: is {name}\npermissions: [{allowed}]\n" for name, allowed in roles
    )
    return (Document(path="roles.yaml", text=text),)


async def declare(fleet: Fleet, *roles: tuple[str, str], by: str = "admin") -> ChangePlan:
    """Both steps, as the gateway does; the errors if there are any."""
    change_id, documents = prefixed("chg"), files(*roles)
    plan: ChangePlan = await fleet.bus.ask(PrepareAgents(change_id=change_id, by=by, documents=documents))
    if not plan.errors:
        await fleet.bus.ask(CommitAgents(change_id=change_id, base=plan.base, by=by, documents=documents))
    return plan


async def add(fleet: Fleet, name: str, *roles: str, by: str = "admin") -> None:
    await fleet.bus.ask(AddPerson(name=name, roles=roles, by=by))


async def refused(fleet: Fleet, command: Command, code: str, says: str) -> None:
    with pytest.raises(CountersignError, match=says) as refusal:
        await fleet.bus.ask(command)
    assert refusal.value.code == code


async def test_what_a_role_allows_follows_at_once_for_everyone_who_has_it(fleet: Fleet, registry: Service) -> None:
    plan = await declare(fleet, ("helpdesk", "read, people"), ("caller", "read, stop"))
    assert [(c.kind, c.name, c.action) for c in plan.changes] == [
        ("role", "caller", "create"),
        ("role", "helpdesk", "create"),
    ]
    await add(fleet, "ann", "approver", "caller")
    await add(fleet, "bob", "caller")
    await add(fleet, "cid", "reader")
    assert (await fleet.shown_person("ann")).permissions == {"read", "vote", "revoke", "stop"}

    plan = await declare(fleet, ("caller", "read, cancel"), ("helpdesk", "read, people"))
    assert [(c.name, c.action) for c in plan.changes] == [("caller", "update"), ("helpdesk", "unchanged")]
    ann, bob, cid = [await fleet.shown_person(name) for name in ("ann", "bob", "cid")]
    assert ann.permissions == {"read", "vote", "revoke", "cancel"} and ann.revision == 2
    assert bob.permissions == {"read", "cancel"} and (bob.revision, cid.revision) == (2, 1)
    await fleet.bus.ask(SetRoles(name="bob", roles=("reader",), by="admin"))
    assert (await fleet.shown_person("bob")).permissions == {"read"}
    token = (await fleet.shown_person("bob")).token_sha256
    assert token == bob.token_sha256, "other roles need no other token"

    listed = {role.name: role for role in (await fleet.bus.ask(ListRoles())).items}
    assert list(listed) == ["admin", "operator", "approver", "reader", "caller", "helpdesk"]
    assert (listed["caller"].permissions, listed["caller"].people) == (("cancel", "read"), 1)
    assert (listed["admin"].built_in, listed["caller"].built_in, listed["reader"].people) == (True, False, 2)

    await refused(fleet, RemoveRole(name="caller", by="admin"), "conflict", "ann has role `caller`")
    await refused(fleet, RemoveRole(name="reader", by="admin"), "conflict", "built in")
    await refused(fleet, RemoveRole(name="nobody", by="admin"), "not_found", "no role `nobody`")
    await fleet.bus.ask(RemovePerson(name="ann", by="admin"))
    await fleet.bus.ask(RemoveRole(name="caller", by="admin"))
    await refused(
        fleet, AddPerson(name="dan", roles=("caller",), by="admin"), "invalid", "`caller` is no role; there are admin, "
    )

    async def told() -> bool:
        return any(isinstance(e, RoleChanged) and e.role is None for e in await fleet.every_event())

    await fleet.until(told, 20)
    events = await fleet.every_event()
    roles = [(e.name, e.before and e.before.permissions, e.role and e.role.permissions, e.by) for e in events
             if isinstance(e, RoleChanged)]  # fmt: skip
    assert roles == [
        ("caller", None, ("read", "stop"), "admin"),
        ("helpdesk", None, ("people", "read"), "admin"),
        ("caller", ("read", "stop"), ("cancel", "read"), "admin"),
        ("caller", ("cancel", "read"), None, "admin"),
    ]
    granted = [(e.person, e.granted, e.revision) for e in events if isinstance(e, PersonChanged) and e.person == "ann"]
    assert granted == [("ann", ("read", "stop"), 1), ("ann", ("cancel", "read"), 2), ("ann", ("cancel", "read"), 3)]
    await a_role_given_while_it_is_changed_allows_what_it_does_then(fleet)


async def test_nobody_gives_takes_or_changes_what_they_do_not_have(fleet: Fleet, registry: Service) -> None:
    await declare(
        fleet, ("helpdesk", "read, people"), ("deskhead", "read, people, vote"), ("declarer", "read, declare")
    )
    await add(fleet, "hal", "helpdesk")
    await add(fleet, "dee", "deskhead")
    await add(fleet, "oli", "operator")
    await add(fleet, "eve", "admin")
    await add(fleet, "new", "reader", by="hal")  # what one may oneself, one may give

    hal: dict[str, Any] = {"by": "hal"}
    for command in (
        AddPerson(name="hal2", roles=("admin",), **hal),
        AddPerson(name="hal", roles=("helpdesk", "approver"), **hal),  # nor oneself
        AddPerson(name="eve", roles=("reader",), **hal),  # a new token for who may more would be theirs
        AddPerson(name="dan", roles=("deskhead",), **hal),
        SetRoles(name="new", roles=("operator",), **hal),
        SetRoles(name="oli", roles=("reader",), **hal),
        RemovePerson(name="eve", **hal),
        SetGroups(name="dee", groups=("shop",), **hal),
        RemoveTotp(name="eve", **hal),
        RemoveChannel(name="eve", channel="slack", identity="T/U", **hal),
        RemoveRole(name="deskhead", **hal),
        RemoveRole(name="helpdesk", by="oli"),  # it takes `people`
        AddPerson(name="new", roles=("reader",), by="nobody"),
        AddPerson(name="new", roles=("reader",), by="new"),
        RemovePerson(name="new", by="registry"),
    ):
        if command.model_dump().get("by") == "new":
            await fleet.bus.ask(command)  # the gateway asks for `people`; here, nothing is given that they lack
            continue
        await refused(fleet, command, "forbidden", "nobody gives, takes or changes what they do not have")
    await fleet.bus.ask(SetRoles(name="new", roles=("helpdesk",), **hal))
    assert (await fleet.shown_person("eve")).roles == ("admin",)

    for who, role in (
        ("hal", ("helpdesk", "read, people, vote")),  # one's own role, to have more
        ("hal", ("deskhead", "read, people")),  # taking is changing too
        ("oli", ("declarer", "read")),  # it takes `people`
        ("nobody", ("helper", "read")),
    ):
        plan = await declare(fleet, role, by=who)
        [error] = plan.errors
        assert (error.path, error.field, plan.changes) == ("roles.yaml", "permissions", ()), error
        assert f"{who} may not" in error.message
    assert not (await declare(fleet, ("helper", "read, people"), by="hal")).errors
    assert not (await declare(fleet, ("declarer", "read, declare"), by="nobody")).errors, "nothing of it is new"

    # what one may no more when it is committed is not committed
    documents, change = files(("helper", "read")), prefixed("chg")
    prepared = await fleet.bus.ask(PrepareAgents(change_id=change, by="hal", documents=documents))
    await fleet.bus.ask(RemovePerson(name="hal", by="admin"))
    await refused(
        fleet, CommitAgents(change_id=change, base=prepared.base, by="hal", documents=documents), "stale", "apply"
    )


async def a_role_given_while_it_is_changed_allows_what_it_does_then(fleet: Fleet) -> None:
    await fleet.another()
    await declare(fleet, ("caller", "read, stop"))
    for turn in range(3):
        names = [f"p{turn}-{n}" for n in range(6)]
        await asyncio.gather(
            *(add(fleet, name, "caller") for name in names[:3]),
            declare(fleet, ("caller", "read, cancel" if turn % 2 == 0 else "read, stop")),
            *(add(fleet, name, "caller") for name in names[3:]),
        )
        wanted = {"read", "cancel" if turn % 2 == 0 else "stop"}
        for name in names:
            assert (await fleet.shown_person(name)).permissions == wanted


def test_who_is_no_person_declares_no_role() -> None:
    parsed, _ = read_documents(files(("caller", "read")))
    declared = role_declarations.read(parsed)
    present: dict[str, Role] = {}
    removed = PersonRecord(name="ann", roles=("admin",), token_sha256="", status="removed", revision=1)
    for actor in (None, removed):
        [error] = role_declarations.errors(declared, present, None, actor)
        assert error.allowed == "an admin applies it" and error.line is not None
    assert not role_declarations.errors(declared, {"caller": declared["caller"][1]}, None, None)
