"""Credentials on a real nats-server: what they allow, and that void ones are dead when that is answered."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import nats.errors
import pytest

from countersign_chassis import Service
from countersign_chassis.natsauth import read_claims
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import CredentialsIssued, CredentialsRevoked
from countersign_contracts.model import now

if TYPE_CHECKING:
    from .conftest import Fleet


async def is_refused(fleet: Fleet, creds: str | None, agent_id: str = "alpha") -> bool:
    try:
        agent = await fleet.connect(creds, agent_id)
    except nats.errors.Error as error:
        assert any(reason in str(error).lower() for reason in ("authorization violation", "authentication expired"))
        return True
    await agent.client.close()
    return False


async def test_issued_credentials_are_on_the_record_and_their_secrets_nowhere(fleet: Fleet, registry: Service) -> None:
    await fleet.register()
    issued = await fleet.issue()
    assert issued.http_token is not None
    assert issued.http_token.startswith("csa_")
    assert issued.nats_creds is not None
    shown = await fleet.shown()
    assert shown is not None
    http, nats_user = shown.credentials
    assert http.sha256 == hashlib.sha256(issued.http_token.encode()).hexdigest()
    assert nats_user.nkey is not None
    assert nats_user.nkey.startswith("U")
    assert (shown.revision, issued.credential_ids) == (issued.revision, (http.credential_id, nats_user.credential_id))
    _, told = await fleet.events(2)
    assert isinstance(told, CredentialsIssued)
    assert told.credentials == shown.credentials

    seed = next(line for line in issued.nats_creds.splitlines() if line.startswith("SU"))
    named = "SELECT relname AS name FROM pg_class WHERE relnamespace = 'registry'::regnamespace"
    tables = [row["name"] for row in await fleet.sql(f"{named} AND relkind IN ('r', 'p') AND NOT relispartition")]
    assert len(tables) == 32
    rows = [str(row) for table in tables for row in await fleet.sql(f"SELECT t::text FROM {table} t")]
    assert not [row for row in rows if seed in row or issued.http_token in row]


async def test_an_agent_is_heard_dropped_when_revoked_and_kept_out(fleet: Fleet, registry: Service) -> None:
    await fleet.register("alpha")
    await fleet.register("beta")
    creds = (await fleet.issue("alpha")).nats_creds
    alpha, beta = (
        await fleet.connect(creds, "alpha"),
        await fleet.connect((await fleet.issue("beta")).nats_creds, "beta"),
    )
    await alpha.beat(b'{"status": "working"}')
    await fleet.until(lambda: _heard(fleet, "alpha"))

    await fleet.set_status("revoked", "alpha")
    await alpha.dropped(seconds=1)
    assert await is_refused(fleet, creds)

    await beta.beat()
    await fleet.until(lambda: _heard(fleet, "beta"))
    assert beta.client.is_connected


async def test_a_paused_agent_keeps_its_connection(fleet: Fleet, registry: Service) -> None:
    await fleet.register()
    alpha = await fleet.connect((await fleet.issue()).nats_creds)
    await fleet.set_status("paused")
    await alpha.beat()
    await fleet.until(lambda: _heard(fleet, "alpha"))


async def test_replaced_credentials_are_dead_and_those_of_the_other_kind_live(fleet: Fleet, registry: Service) -> None:
    await fleet.register()
    old = await fleet.issue()
    kept = await fleet.issue(kinds=("http",))
    agent = await fleet.connect(old.nats_creds)
    new = await fleet.issue(kinds=("nats",), replace=True)
    await agent.dropped(seconds=1)
    assert await is_refused(fleet, old.nats_creds)
    await fleet.connect(new.nats_creds)

    shown = await fleet.shown()
    assert shown is not None
    live = {credential.credential_id for credential in shown.credentials}
    assert live == {old.credential_ids[0], *kept.credential_ids, *new.credential_ids}
    *_, revoked, issued = await fleet.events(5)
    assert isinstance(revoked, CredentialsRevoked)
    assert revoked.credential_ids == (old.credential_ids[1],)
    assert isinstance(issued, CredentialsIssued)


async def test_credentials_end_with_their_lifetime(fleet: Fleet, registry: Service) -> None:
    await fleet.register()
    issued = await fleet.issue(lifetime_s=2)
    assert issued.expires_at is not None
    shown = await fleet.shown()
    assert shown is not None
    assert {credential.expires_at for credential in shown.credentials} == {issued.expires_at}
    agent = await fleet.connect(issued.nats_creds)
    await agent.dropped(seconds=5)
    assert abs((now() - issued.expires_at).total_seconds()) < 1.5
    # a JWT is good through the second it names
    await fleet.until(lambda: is_refused(fleet, issued.nats_creds), seconds=3)


async def test_an_agent_has_a_bounded_number_of_live_credentials(fleet: Fleet) -> None:
    await fleet.run(max_live_credentials=2)
    await fleet.register()
    for _ in range(2):
        await fleet.issue(kinds=("http",))
    with pytest.raises(CountersignError, match="has 2 live http credentials") as error:
        await fleet.issue()
    assert error.value.code == "conflict"
    await fleet.issue(kinds=("nats",))
    await fleet.issue(kinds=("http",), replace=True)


async def test_a_revocation_voids_the_credentials_that_it_waited_for(fleet: Fleet, registry: Service) -> None:
    """The order to revoke came while credentials were being issued: it sees them, though it began before they were."""
    await fleet.register()
    async with fleet.connection() as other, other.transaction():
        await other.execute("SELECT FROM agent FOR UPDATE")
        issuing = asyncio.create_task(fleet.issue())
        await fleet.until(lambda: fleet.waiting(1))
        revoking = asyncio.create_task(fleet.set_status("revoked"))
        await fleet.until(lambda: fleet.waiting(2))
    issued = await issuing
    assert (await revoking).agent.credentials == ()
    assert await fleet.sql("SELECT FROM credential WHERE voided_at IS NULL") == []
    assert await is_refused(fleet, issued.nats_creds)


async def test_a_revocation_that_is_not_confirmed_is_said_kept_and_retried(fleet: Fleet) -> None:
    await fleet.run()
    await fleet.register()
    await fleet.register("beta")
    issued, other = await fleet.issue(), await fleet.issue("beta")
    agents = [await fleet.connect(issued.nats_creds), await fleet.connect(other.nats_creds, "beta")]

    # this registry connects as a user that cannot change the account
    powerless = await fleet.run(
        nats_system_creds_file=fleet.stack.layout.creds("registry-agents"),
        account_push_timeout_s=0.2,
        account_check_s=0.1,
    )
    assert any("void NATS users" in reason for reason in powerless.unready())
    with pytest.raises(CountersignError, match=r"`alpha` is revoked, and stays so.*not confirmed.*retried") as error:
        await fleet.set_status("revoked")
    assert error.value.code == "unavailable"
    with pytest.raises(CountersignError, match=r"older credentials of agent `beta` are void.*withheld"):
        await fleet.issue("beta", replace=True)
    assert (await fleet.get()).agent.status == "revoked"
    assert all(agent.client.is_connected for agent in agents)
    failed = powerless.metrics.registry.get_sample_value
    name, labels = "countersign_account_pushes_total", {"result": "failed"}
    before = failed(name, labels) or 0

    async def tries_on() -> bool:
        return (failed(name, labels) or 0) > before

    await fleet.until(tries_on)

    registry = await fleet.run()
    for agent in agents:
        await agent.dropped(seconds=1)
    assert registry.unready() == []
    assert (await fleet.set_status("revoked")).agent.status == "revoked"


async def test_revocations_hold_after_nats_server_lost_its_accounts(fleet: Fleet, registry: Service) -> None:
    await fleet.register()
    await fleet.register("beta")
    gone, kept = await fleet.issue(), await fleet.issue("beta")
    await fleet.set_status("revoked")
    await fleet.restart_nats(lose=("resolver",))
    await fleet.until(lambda: is_refused(fleet, gone.nats_creds))
    beta = await fleet.connect(kept.nats_creds, "beta")
    await beta.beat()
    await fleet.until(lambda: _heard(fleet, "beta"))


async def test_every_push_is_later_than_the_one_before(fleet: Fleet, registry: Service) -> None:
    """Also within one second, and after the clock went back: of two, a restarting nats-server keeps the later one."""
    seconds = [await _pushed(fleet)]
    for agent_id in ("a", "b", "c"):
        await fleet.register(agent_id)
        await fleet.issue(agent_id)
        await fleet.set_status("revoked", agent_id)
        seconds.append(await _pushed(fleet))
    assert seconds == sorted(set(seconds))


async def _heard(fleet: Fleet, agent_id: str) -> bool:
    return (await fleet.get(agent_id)).last_seen is not None


async def _pushed(fleet: Fleet) -> int:
    (row,) = await fleet.sql("SELECT jwt FROM agents_account")
    return int(read_claims(row["jwt"])["iat"])
