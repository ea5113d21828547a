"""Logins, on real servers: a proof starts one, a refresh token goes on with it once, and an end is an end."""

from __future__ import annotations

import asyncio
from base64 import b32decode
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from countersign_chassis import Service
from countersign_contracts import access_token
from countersign_contracts.command import Command
from countersign_contracts.enrolment import token_sha256
from countersign_contracts.errors import CountersignError
from countersign_contracts.event import Event
from countersign_contracts.fleet import person_key
from countersign_contracts.logins import (
    EndedLogin,
    EndLogin,
    IssuedAccess,
    ListLogins,
    LogIn,
    LoginEnded,
    LoginEvent,
    LoginsRecord,
    LoginStarted,
    RefreshLogin,
)
from countersign_contracts.model import now
from countersign_contracts.people_commands import AddPerson, ConfirmTotp, RemovePerson, StartEnrolment, StartTotp
from countersign_contracts.projection import LOGINS, open_projection
from countersign_registry import totp
from countersign_registry.logins import MAX_LOGINS

if TYPE_CHECKING:
    from .conftest import Fleet


async def add(fleet: Fleet, name: str = "ann") -> str:
    return str((await fleet.bus.ask(AddPerson(name=name, roles=("reader",), by="admin"))).token)


async def log_in(fleet: Fleet, token: str) -> IssuedAccess:
    issued: IssuedAccess = await fleet.bus.ask(LogIn(token_sha256=token_sha256(token)))
    return issued


async def refresh(fleet: Fleet, token: str) -> IssuedAccess:
    issued: IssuedAccess = await fleet.bus.ask(RefreshLogin(refresh_sha256=token_sha256(token)))
    return issued


async def refused(fleet: Fleet, token: str, says: str) -> None:
    ask = log_in if token.startswith("csp_") else refresh
    with pytest.raises(CountersignError, match=says) as refusal:
        await ask(fleet, token)
    assert refusal.value.code == "unauthenticated"


async def shown(fleet: Fleet, name: str = "ann") -> LoginsRecord:
    key = person_key(name)
    js = (await fleet.stack.client("bootstrap-core")).jetstream()
    message = await js.get_last_msg("KV_logins", f"$KV.logins.{key}")
    return open_projection(LOGINS, key, message.data or b"", fleet.stack.trust(), LoginsRecord)


async def told(fleet: Fleet, count: int) -> list[LoginEvent]:
    """What the stream has of logins, once it is that much."""
    found: list[Event] = []

    async def there() -> bool:
        found[:] = [event for event in await fleet.every_event() if isinstance(event, LoginEvent)]
        return len(found) >= count

    await fleet.until(there, 20)
    return [event for event in found if isinstance(event, LoginEvent)]


async def test_a_refresh_token_counts_once_and_one_that_comes_again_ends_the_login(
    fleet: Fleet, registry: Service
) -> None:
    token = await add(fleet)
    first = await log_in(fleet, token)
    other = await log_in(fleet, token)
    claims = access_token.verify(first.access_token, at=now(), trust=fleet.stack.trust())
    assert (claims.sub, claims.sid, claims.rev) == ("ann", first.login_id, 1)
    assert timedelta(minutes=14) < first.expires_at - now() <= timedelta(minutes=15)
    assert (await shown(fleet)).logins == (first.login_id, other.login_id)

    second = await refresh(fleet, first.refresh_token)
    third = await refresh(fleet, second.refresh_token)
    assert first.login_id == second.login_id == third.login_id
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    assert third.refresh_expires_at == first.refresh_expires_at, "a login is as long as its proof is good for"

    await refused(fleet, first.refresh_token, "used before")
    assert (await shown(fleet)).logins == (other.login_id,)
    for void in (third.refresh_token, second.refresh_token, first.refresh_token, "csr_unknown"):
        await refused(fleet, void, "not known, or void")
    await refresh(fleet, other.refresh_token)

    events = await told(fleet, 3)
    assert [(type(e), e.login_id) for e in events] == [
        (LoginStarted, first.login_id),
        (LoginStarted, other.login_id),
        (LoginEnded, first.login_id),
    ]
    assert isinstance(events[2], LoginEnded) and (events[2].reason, events[2].by) == ("reused", "registry")
    rows = await fleet.sql("SELECT * FROM login, spent_refresh")
    bodies = b"".join(one.body for _, one in await fleet.raw_events())
    for secret in (token, *(each.refresh_token for each in (first, second, third, other)), first.access_token):
        assert secret not in str(rows) and secret.encode() not in bodies
        assert token_sha256(secret).encode() not in bodies
    await of_many_that_use_one_refresh_token_at_once_none_keeps_the_login(fleet)


async def of_many_that_use_one_refresh_token_at_once_none_keeps_the_login(fleet: Fleet) -> None:
    await fleet.another()
    first = await log_in(fleet, await add(fleet, "bob"))
    got = await asyncio.gather(*(refresh(fleet, first.refresh_token) for _ in range(6)), return_exceptions=True)
    won = [one for one in got if isinstance(one, IssuedAccess)]
    assert len(won) == 1
    assert (await shown(fleet, "bob")).logins == ()
    await refused(fleet, won[0].refresh_token, "not known, or void")


async def test_logins_end_with_the_person_with_their_token_by_order_and_by_themselves(fleet: Fleet) -> None:
    await fleet.run()
    token = await add(fleet)
    one, two = [await log_in(fleet, token) for _ in range(2)]
    with pytest.raises(CountersignError, match="you have no login") as refusal:
        await fleet.bus.ask(EndLogin(login_id=one.login_id, of="bob", by="bob"))
    assert refusal.value.code == "not_found"
    for _ in range(2):
        ended: EndedLogin = await fleet.bus.ask(EndLogin(login_id=one.login_id, of="ann", by="ann"))
    assert ended == EndedLogin()
    assert [each.login_id for each in (await fleet.bus.ask(ListLogins(name="ann"))).items] == [two.login_id]

    newer = await add(fleet)
    assert (await shown(fleet)).logins == ()
    await refused(fleet, token, "no person's token")
    await refused(fleet, two.refresh_token, "void")
    three = await log_in(fleet, newer)
    await fleet.bus.ask(RemovePerson(name="ann", by="admin"))
    assert (await shown(fleet)).logins == ()
    await refused(fleet, newer, "no person's token")
    await refused(fleet, three.refresh_token, "void")

    admin = await log_in(fleet, fleet.stack.layout.admin_token.read_text().strip())
    fleet.stack.layout.admin_token.write_text("x" * 40)
    await fleet.run(login_s=60, access_token_s=3600)
    await refused(fleet, admin.refresh_token, "void")
    short = await log_in(fleet, "x" * 40)
    assert short.expires_at == short.refresh_expires_at, "no access token is for longer than its login"
    async with fleet.connection() as connection:
        await connection.execute("UPDATE login SET expires_at = now()")
    await refused(fleet, short.refresh_token, "the login ended at")
    assert (await fleet.bus.ask(ListLogins())).items == ()

    ends = [event for event in await told(fleet, 9) if isinstance(event, LoginEnded)]
    assert [(e.person, e.reason, e.by) for e in ends] == [
        ("ann", "revoked", "ann"),
        ("ann", "replaced", "admin"),
        ("ann", "removed", "admin"),
        ("admin", "replaced", "registry"),
    ]


async def test_the_oldest_login_makes_room_and_the_bucket_is_shown_again(fleet: Fleet) -> None:
    await fleet.run(projection_check_s=0.1)
    token = await add(fleet)
    started = [await log_in(fleet, token) for _ in range(MAX_LOGINS + 1)]
    wanted = tuple(each.login_id for each in started[1:])
    assert (await shown(fleet)).logins == wanted
    await refused(fleet, started[0].refresh_token, "void")
    await fleet.lose_bucket("logins")

    async def there() -> bool:
        try:
            return (await shown(fleet)).logins == wanted
        except Exception:
            return False

    await fleet.until(there, 20)


async def test_what_proves_who_somebody_is_takes_a_fresh_login(fleet: Fleet, registry: Service) -> None:
    """A copied access token must not become a proof that outlasts it."""
    token = await add(fleet)
    mine, boss = await log_in(fleet, token), await log_in(fleet, fleet.stack.layout.admin_token.read_text().strip())

    def asked_with(login_id: str | None, admins: str | None) -> tuple[Command, ...]:
        return (
            StartEnrolment(name="ann", channel="slack", login_id=login_id),
            StartTotp(name="ann", login_id=login_id),
            AddPerson(name="bob", roles=("reader",), by="admin", login_id=admins),
        )

    async def all_refused(*commands: Command, says: str) -> None:
        for command in commands:
            with pytest.raises(CountersignError, match=says) as refusal:
                await fleet.bus.ask(command)
            assert refusal.value.code == "fresh_login"

    async def begun_ago(minutes: float) -> None:
        await fleet.sql("UPDATE registry.login SET started_at = now() - make_interval(secs => $1)", minutes * 60)

    for command in asked_with(mine.login_id, boss.login_id):
        await fleet.bus.ask(command)
    await begun_ago(4.8)
    for command in asked_with(mine.login_id, boss.login_id):
        await fleet.bus.ask(command)
    await begun_ago(5.2)
    await refresh(fleet, mine.refresh_token)
    await all_refused(*asked_with(mine.login_id, boss.login_id), says=r"began 5 minutes ago: log in again")
    for command in asked_with(None, None):
        await fleet.bus.ask(command)
    # neither another's login, nor one that has ended meanwhile
    fresh = await log_in(fleet, token)
    await all_refused(*asked_with(boss.login_id, fresh.login_id), says="this login has ended; log in")
    await fleet.bus.ask(EndLogin(login_id=fresh.login_id, of="ann", by="ann"))
    await all_refused(*asked_with(fresh.login_id, "lgn_" + "0" * 32), says="this login has ended; log in")

    # a code of the generator says more than a login does
    secret = b32decode((await fleet.bus.ask(StartTotp(name="ann"))).secret)
    await fleet.bus.ask(ConfirmTotp(name="ann", code=totp.code_of(secret, totp.step_at(now()) - 1)))
    await fleet.bus.ask(StartTotp(name="ann", login_id=mine.login_id, code=totp.code_of(secret, totp.step_at(now()))))
