"""One-time codes on real servers: each counts once, wrong ones lock, and the secret is nowhere in clear."""

from __future__ import annotations

import asyncio
from base64 import b32decode
from typing import TYPE_CHECKING

import pytest

from countersign_chassis import Service
from countersign_chassis.sealing import key_text, new_key
from countersign_contracts.command import Command, Done
from countersign_contracts.envelope import open_event
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import PersonChanged
from countersign_contracts.model import now
from countersign_contracts.people_commands import (
    AddPerson,
    ConfirmTotp,
    PersonView,
    RemovePerson,
    RemoveTotp,
    StartTotp,
    TotpSecret,
    VerifyTotp,
)
from countersign_registry import totp

if TYPE_CHECKING:
    from .conftest import Fleet


async def start(fleet: Fleet, name: str = "ann", code: str | None = None) -> bytes:
    issued: TotpSecret = await fleet.bus.ask(StartTotp(name=name, code=code))
    assert issued.uri.startswith(f"otpauth://totp/Countersign:{name}?secret={issued.secret}&")
    return b32decode(issued.secret)


def code(secret: bytes, away: int = 0) -> str:
    return totp.code_of(secret, totp.step_at(now()) + away)


def wrong(*secrets: bytes) -> str:
    """A code of none of them, now or soon."""
    taken = {code(secret, away) for secret in secrets for away in range(-2, 4)}
    return next(text for n in range(100) if (text := f"{n:06}") not in taken)


async def refused(fleet: Fleet, command: Command) -> CountersignError:
    with pytest.raises(CountersignError) as error:
        await fleet.bus.ask(command)
    return error.value


async def enrolled(fleet: Fleet, name: str = "ann") -> bytes:
    """Add the person, with a generator; the code of the step before is used."""
    await fleet.bus.ask(AddPerson(name=name, roles=("approver",), by="admin"))
    secret = await start(fleet, name)
    view: PersonView = await fleet.bus.ask(ConfirmTotp(name=name, code=code(secret, -1)))
    assert view.totp
    return secret


async def test_a_generator_counts_once_a_code_of_it_was_given(fleet: Fleet, registry: Service) -> None:
    await fleet.bus.ask(AddPerson(name="ann", roles=("approver",), by="admin"))
    error = await refused(fleet, VerifyTotp(name="ann", code="000000"))
    assert (error.code, "`countersign people totp` sets one up" in error.detail) == ("conflict", True)
    assert (await refused(fleet, ConfirmTotp(name="ann", code="000000"))).code == "not_found"
    lost = await start(fleet)
    secret = await start(fleet)
    assert (await refused(fleet, ConfirmTotp(name="ann", code=wrong(secret)))).code == "wrong_code"
    assert not (await fleet.shown_person("ann")).totp
    assert code(lost) != code(secret)
    first = code(secret, -1)
    assert (await fleet.bus.ask(ConfirmTotp(name="ann", code=first))).totp
    shown = await fleet.shown_person("ann")
    assert (shown.totp, shown.revision) == (True, 2)
    # the code that confirmed it was taken by that
    assert "used already" in (await refused(fleet, VerifyTotp(name="ann", code=first))).detail
    assert await fleet.bus.ask(VerifyTotp(name="ann", code=code(secret))) == Done()
    events = [open_event(one, fleet.stack.trust()) for _, one in await fleet.raw_events()]
    assert [(e.person, e.totp, e.by) for e in events if isinstance(e, PersonChanged)][-1] == ("ann", True, "ann")


async def test_each_code_is_taken_once_and_none_before_it(fleet: Fleet, registry: Service) -> None:
    secret = await enrolled(fleet)
    last = code(secret, 1)
    older = code(secret)
    outcomes = await asyncio.gather(
        *(fleet.bus.ask(VerifyTotp(name="ann", code=last)) for _ in range(20)), return_exceptions=True
    )
    assert sum(outcome == Done() for outcome in outcomes) == 1
    assert {o.code for o in outcomes if isinstance(o, CountersignError)} == {"wrong_code"}
    error = await refused(fleet, VerifyTotp(name="ann", code=older))
    assert error.code == "wrong_code" and "used already" in error.detail
    # repeats are no guesses: nobody is locked out by them
    assert await fleet.sql("SELECT FROM wrong_tries") == []


async def test_wrong_codes_lock_until_a_time_that_is_said(fleet: Fleet, registry: Service) -> None:
    secret = await enrolled(fleet)
    bad = wrong(secret)
    errors = await asyncio.gather(*(refused(fleet, VerifyTotp(name="ann", code=bad)) for _ in range(8)))
    assert sorted(error.code for error in errors) == ["locked_out"] * 3 + ["wrong_code"] * 5
    locked = await refused(fleet, VerifyTotp(name="ann", code=code(secret)))
    assert locked.code == "locked_out" and locked.extra["until"][:16].replace("T", " ") in locked.detail
    assert (await refused(fleet, StartTotp(name="ann", code=code(secret)))).code == "locked_out"
    await fleet.sql("UPDATE wrong_tries SET locked_until = now() - interval '1 s'")
    await fleet.bus.ask(VerifyTotp(name="ann", code=code(secret)))
    # a right one begins the count anew
    for _ in range(4):
        assert (await refused(fleet, VerifyTotp(name="ann", code=bad))).code == "wrong_code"
    await fleet.bus.ask(VerifyTotp(name="ann", code=code(secret, 1)))


async def test_a_stolen_token_is_not_enough_for_another_generator(fleet: Fleet, registry: Service) -> None:
    secret = await enrolled(fleet)
    for order in (StartTotp(name="ann"), RemoveTotp(name="ann", by="ann")):
        error = await refused(fleet, order)
        assert (error.code, "give a code of it" in error.detail) == ("wrong_code", True)
    assert (await refused(fleet, StartTotp(name="ann", code=wrong(secret)))).code == "wrong_code"
    assert (await refused(fleet, RemoveTotp(name="ann", by="ann", code=wrong(secret)))).code == "wrong_code"
    # with a code of the present one, which stays until the new one is confirmed
    new = await start(fleet, code=code(secret))
    await fleet.bus.ask(VerifyTotp(name="ann", code=code(secret, 1)))
    revision = (await fleet.shown_person("ann")).revision
    await fleet.bus.ask(ConfirmTotp(name="ann", code=code(new)))
    assert (await fleet.shown_person("ann")).revision == revision + 1
    assert (await refused(fleet, VerifyTotp(name="ann", code=wrong(new)))).code == "wrong_code"
    await fleet.bus.ask(RemoveTotp(name="ann", by="ann", code=code(new, 1)))
    assert not (await fleet.shown_person("ann")).totp


async def test_an_admin_removes_what_was_lost_and_with_it_the_lock(fleet: Fleet, registry: Service) -> None:
    secret = await enrolled(fleet)
    for _ in range(5):
        await refused(fleet, VerifyTotp(name="ann", code=wrong(secret)))
    for _ in range(2):
        view = await fleet.bus.ask(RemoveTotp(name="ann", by="admin"))
        assert not view.totp
    assert not (await fleet.shown_person("ann")).totp
    await fleet.bus.ask(ConfirmTotp(name="ann", code=code(await start(fleet))))


async def test_who_is_removed_has_no_generator_and_gets_none_back(fleet: Fleet, registry: Service) -> None:
    secret = await enrolled(fleet)
    await fleet.bus.ask(RemovePerson(name="ann", by="admin"))
    assert not (await fleet.shown_person("ann")).totp
    for order in (
        VerifyTotp(name="ann", code=code(secret)),
        StartTotp(name="ann"),
        ConfirmTotp(name="ann", code="0" * 6),
    ):
        error = await refused(fleet, order)
        assert (error.code, "`ann` was removed" in error.detail) == ("not_found", True)
    await fleet.bus.ask(AddPerson(name="ann", roles=("approver",), by="admin"))
    assert (await refused(fleet, VerifyTotp(name="ann", code=code(secret)))).code == "conflict"


async def test_a_generator_is_confirmed_in_time(fleet: Fleet, registry: Service) -> None:
    await fleet.bus.ask(AddPerson(name="ann", roles=("approver",), by="admin"))
    secret = await start(fleet)
    await fleet.sql("UPDATE totp SET pending_until = now()")
    error = await refused(fleet, ConfirmTotp(name="ann", code=code(secret)))
    assert (error.code, "more than 10 minutes" in error.detail) == ("not_found", True)


async def test_the_secret_rests_encrypted_for_its_person_under_a_key_of_the_registry_s(
    fleet: Fleet, capfd: pytest.CaptureFixture[str]
) -> None:
    await fleet.run(log_level="debug")
    secret = await enrolled(fleet)
    other = await enrolled(fleet, "ben")
    text = totp.text_of(secret)
    rows = [await fleet.sql(f"SELECT * FROM {table}") for table in ("totp", "person", "outbox")]
    stored = "\n".join(str(row) for found in rows for row in found)
    assert "ann" in stored
    events = b"".join(envelope.body for _, envelope in await fleet.raw_events()).decode()
    out, err = capfd.readouterr()
    for form in (text, secret.hex(), str(secret)[2:-1]):
        assert form not in stored + events + out + err

    # a row copied to somebody else's name does not open
    await fleet.sql("UPDATE totp SET secret = (SELECT secret FROM totp WHERE person = 'ann') WHERE person = 'ben'")
    error = await refused(fleet, VerifyTotp(name="ben", code=code(secret)))
    assert (error.code, "cannot be read" in error.detail) == ("conflict", True)
    assert (await refused(fleet, VerifyTotp(name="ben", code=code(other)))).code == "conflict"

    # a new key before the old one: what was encrypted before still opens
    file = fleet.stack.layout.codes_key
    file.write_text(key_text(new_key()) + file.read_text())
    await fleet.run()
    await fleet.bus.ask(VerifyTotp(name="ann", code=code(secret)))
    file.write_text(key_text(new_key()))
    await fleet.run()
    assert "key of codes is another one" in (await refused(fleet, VerifyTotp(name="ann", code=code(secret, 1)))).detail
