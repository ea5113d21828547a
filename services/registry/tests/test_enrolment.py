"""Enrolment in a channel on real servers: a code counts once, for ten minutes, for one person, and not for guessers."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest

from countersign_chassis import Bus, Service
from countersign_contracts.envelope import open_event
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import PersonChanged
from countersign_contracts.people_commands import (
    AddPerson,
    ConfirmEnrolment,
    EnrolmentCode,
    ListPeople,
    PersonView,
    RemoveChannel,
    RemovePerson,
    StartEnrolment,
)

if TYPE_CHECKING:
    from .conftest import Fleet

ANN = "T0123/U0001"
BEN = "T0123/U0002"


async def add(fleet: Fleet, *names: str) -> None:
    for name in names:
        await fleet.bus.ask(AddPerson(name=name, roles=("approver",), by="admin"))


async def start(fleet: Fleet, name: str = "ann") -> str:
    issued: EnrolmentCode = await fleet.bus.ask(StartEnrolment(name=name, channel="slack"))
    return issued.code


async def confirm(slack: Bus, code: str, identity: str = ANN) -> PersonView:
    view: PersonView = await slack.ask(ConfirmEnrolment(channel="slack", identity=identity, code=code))
    return view


async def refused(slack: Bus, code: str, identity: str = ANN) -> CountersignError:
    with pytest.raises(CountersignError) as error:
        await confirm(slack, code, identity)
    return error.value


async def test_who_types_the_code_is_that_person_in_slack(fleet: Fleet, registry: Service) -> None:
    slack = await fleet.stack.bus("slack")
    await add(fleet, "ann", "ben")
    code = await start(fleet)
    view = await confirm(slack, f" {code.lower().replace('-', '')} ")
    assert (view.name, [c.identity for c in view.channels], view.revision) == ("ann", [ANN], 2)
    shown = await fleet.shown_person("ann")
    assert ([c.identity for c in shown.channels], shown.revision) == ([ANN], 2)

    # once
    assert (await refused(slack, code)).code == "not_found"
    assert (await refused(slack, code, BEN)).code == "not_found"
    # a second workspace is another identity; the same one again changes nothing
    await confirm(slack, await start(fleet), "T9/U9")
    again = await confirm(slack, await start(fleet))
    assert [c.identity for c in again.channels] == [ANN, "T9/U9"] and again.revision == 3

    # nobody in Slack is two people; the code stays for when that is mended
    bens = await start(fleet, "ben")
    error = await refused(slack, bens)
    assert (error.code, "is enrolled as `ann` already" in error.detail) == ("conflict", True)
    for _ in range(2):
        gone = await fleet.bus.ask(RemoveChannel(name="ann", channel="slack", identity=ANN, by="ann"))
        assert [c.identity for c in gone.channels] == ["T9/U9"]
    assert (await confirm(slack, bens)).name == "ben"
    with pytest.raises(CountersignError, match="no person `zoe`"):
        await fleet.bus.ask(RemoveChannel(name="zoe", channel="slack", identity=ANN, by="admin"))

    events = [open_event(one, fleet.stack.trust()) for _, one in await fleet.raw_events()]
    told = [e for e in events if isinstance(e, PersonChanged) and e.revision > 1]
    assert [(e.person, e.by, [c.identity for c in e.channels]) for e in told] == [
        ("ann", f"slack:{ANN}", [ANN]),
        ("ann", "slack:T9/U9", [ANN, "T9/U9"]),
        ("ann", "ann", ["T9/U9"]),
        ("ben", f"slack:{ANN}", [ANN]),
    ]


async def test_a_code_is_void_after_a_newer_one_and_after_its_time(fleet: Fleet, registry: Service) -> None:
    slack = await fleet.stack.bus("slack")
    await add(fleet, "ann")
    first = await start(fleet)
    second = await start(fleet)
    assert (await refused(slack, first)).code == "not_found"
    rows = await fleet.sql("UPDATE enrolment SET expires_at = now() RETURNING digest, expires_at")
    assert len(rows) == 1
    error = await refused(slack, second)
    assert error.code == "not_found" and "`countersign people link-slack` gives a new one" in error.detail
    # what is kept tells nobody the code, though they had every code's plain digest
    stored = bytes(rows[0]["digest"])
    for text in (second, second.replace("-", "")):
        assert stored != hashlib.sha256(text.encode()).digest()
    await confirm(slack, await start(fleet))


async def test_of_many_who_type_one_code_at_once_one_is_enrolled(fleet: Fleet, registry: Service) -> None:
    slack = await fleet.stack.bus("slack")
    await add(fleet, "ann")
    code = await start(fleet)
    outcomes = await asyncio.gather(*(confirm(slack, code, f"T1/U{n}") for n in range(12)), return_exceptions=True)
    assert sum(isinstance(outcome, PersonView) for outcome in outcomes) == 1
    assert len((await fleet.shown_person("ann")).channels) == 1


async def test_guessers_are_locked_out_alone_and_together(fleet: Fleet, registry: Service) -> None:
    slack = await fleet.stack.bus("slack")
    await add(fleet, "ann")
    code = await start(fleet)
    guesses = await asyncio.gather(*(refused(slack, "AAAA-AAAA", BEN) for _ in range(8)))
    assert sorted(error.code for error in guesses) == ["locked_out"] * 3 + ["not_found"] * 5
    locked = await refused(slack, code, BEN)
    assert locked.code == "locked_out" and "UTC" in locked.detail
    assert (await confirm(slack, code)).name == "ann"

    # many together: sixty in ten minutes
    await fleet.sql("UPDATE wrong_tries SET wrong = 59 WHERE about = 'enrolment'")
    assert (await refused(slack, "AAAA-AAAA", "T1/U77")).code == "not_found"
    assert (await refused(slack, await start(fleet), "T1/U78")).code == "locked_out"
    await fleet.sql("UPDATE wrong_tries SET locked_until = now() - interval '1 s'")
    await confirm(slack, await start(fleet), "T1/U78")


async def test_a_removed_person_is_nobody_in_slack(fleet: Fleet, registry: Service) -> None:
    slack = await fleet.stack.bus("slack")
    await add(fleet, "ann", "ben")
    await confirm(slack, await start(fleet))
    code = await start(fleet)
    await fleet.bus.ask(RemovePerson(name="ann", by="admin"))
    assert (await fleet.shown_person("ann")).channels == ()
    assert (await refused(slack, code)).code == "not_found"
    with pytest.raises(CountersignError, match="`ann` was removed") as error:
        await start(fleet)
    assert error.value.code == "not_found"
    # the identity is free, and who comes back begins with nothing
    assert (await confirm(slack, await start(fleet, "ben"))).name == "ben"
    await add(fleet, "ann")
    people = await fleet.bus.ask(ListPeople())
    assert {p.name: [c.identity for c in p.channels] for p in people.items} == {"admin": [], "ann": [], "ben": [ANN]}


async def test_only_slack_may_confirm_and_only_so_many_identities_are_one_person(
    fleet: Fleet, registry: Service
) -> None:
    slack = await fleet.stack.bus("slack")
    await add(fleet, "ann")
    for n in range(8):
        await confirm(slack, await start(fleet), f"T{n}/U1")
    error = await refused(slack, await start(fleet))
    assert (error.code, "as many as one may have" in error.detail) == ("conflict", True)
    with pytest.raises(CountersignError):
        await fleet.bus.ask(ConfirmEnrolment(channel="slack", identity=ANN, code=await start(fleet)), timeout_s=1)
    assert len((await fleet.shown_person("ann")).channels) == 8
