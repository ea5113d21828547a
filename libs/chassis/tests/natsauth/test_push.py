"""Accounts changed on a running server: revocation, expiry, rotation, and who may do it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import signal
import time
from typing import TYPE_CHECKING

import nats.errors
import pytest

from countersign_chassis.natsauth import (
    EVERY_USER,
    AccountPushRefusedError,
    AccountPushUnansweredError,
    InvalidClaimError,
    KeyPair,
    Permissions,
    account_push_permissions,
    push_account,
    read_claims,
)
from countersign_harness.standstill import stand_still

if TYPE_CHECKING:
    from .conftest import Connect, Connection, Deployment


def now() -> int:
    return int(time.time())


@pytest.fixture
async def registry(own_deployment: Deployment, connect_own: Connect) -> Connection:
    """The connection to the system account that pushes, with no more permissions than it needs."""
    permissions = account_push_permissions(own_deployment.public("AGENTS"), "_INBOX.registry")
    return await connect_own.user("SYS", "registry", permissions)


async def refused(connect: Connect, jwt: str, user: KeyPair) -> None:
    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        await connect(jwt, user)


async def test_a_revoked_user_is_dropped_at_once_and_stays_out(
    own_deployment: Deployment, connect_own: Connect, registry: Connection
) -> None:
    user = KeyPair.generate("user")
    jwt = own_deployment.agent_jwt("alpha", user)
    revoked, other = await connect_own(jwt, user), await connect_own.agent("beta")
    await push_account(
        registry.client,
        own_deployment.account("AGENTS", issued_at=now(), revocations={user.public: now()}),
    )
    await revoked.dropped(seconds=1)
    await refused(connect_own, jwt, user)
    await other.publish("agents.beta.logs", b"still connected")
    assert other.client.is_connected

    own_deployment.stop()
    own_deployment.start()
    await refused(connect_own, jwt, user)


async def test_a_revocation_counts_for_jwts_issued_up_to_its_second(
    own_deployment: Deployment, connect_own: Connect, registry: Connection
) -> None:
    user, second = KeyPair.generate("user"), now() - 20
    await push_account(
        registry.client, own_deployment.account("AGENTS", issued_at=now(), revocations={user.public: second})
    )
    await refused(connect_own, own_deployment.agent_jwt("alpha", user, issued_at=second), user)
    await connect_own(own_deployment.agent_jwt("alpha", user, issued_at=second + 1), user)


async def test_every_user_is_revoked_at_once(
    own_deployment: Deployment, connect_own: Connect, registry: Connection
) -> None:
    agents = [await connect_own.agent(name) for name in ("alpha", "beta")]
    claims = own_deployment.account("AGENTS", issued_at=now(), revocations={EVERY_USER: now()})
    await push_account(registry.client, claims)
    for agent in agents:
        await agent.dropped(seconds=1)


async def test_a_later_push_without_the_revocation_lifts_it(
    own_deployment: Deployment, connect_own: Connect, registry: Connection
) -> None:
    user = KeyPair.generate("user")
    jwt = own_deployment.agent_jwt("alpha", user)
    await push_account(
        registry.client,
        own_deployment.account("AGENTS", issued_at=now(), revocations={user.public: now()}),
    )
    await refused(connect_own, jwt, user)
    await push_account(registry.client, own_deployment.account("AGENTS", issued_at=now() + 1))
    await connect_own(jwt, user)


async def test_users_of_a_signing_key_that_is_taken_away_are_dropped(
    own_deployment: Deployment, connect_own: Connect, registry: Connection
) -> None:
    agent = await connect_own.agent("alpha")
    claims = own_deployment.account("AGENTS", issued_at=now(), scoped_keys=[])
    await push_account(registry.client, claims)
    await agent.dropped(seconds=1)
    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        await connect_own.agent("alpha")


async def test_a_restart_takes_the_configured_account_back_if_it_is_not_older(
    own_deployment: Deployment, connect_own: Connect, registry: Connection
) -> None:
    """So a deployment that mints its accounts anew at each start has to bring the revocations along."""
    user = KeyPair.generate("user")
    jwt = own_deployment.agent_jwt("alpha", user)
    pushed = own_deployment.account("AGENTS", issued_at=now(), revocations={user.public: now()})
    await push_account(registry.client, pushed)
    await refused(connect_own, jwt, user)
    own_deployment.stop()
    same_second = read_claims(pushed)["iat"]
    own_deployment.preloaded[own_deployment.public("AGENTS")] = own_deployment.account("AGENTS", issued_at=same_second)
    own_deployment.start()
    await connect_own(jwt, user)


async def test_a_user_is_disconnected_when_its_jwt_expires(own_deployment: Deployment, connect_own: Connect) -> None:
    user, expiry = KeyPair.generate("user"), now() + 2
    jwt = own_deployment.agent_jwt("alpha", user, expires_at=expiry)
    agent = await connect_own(jwt, user)
    await agent.dropped(seconds=5)
    assert expiry - 1 < time.time() < expiry + 1.5
    await asyncio.sleep(max(0.0, expiry + 1 - time.time()))  # it is good through the second it names
    await refused(connect_own, jwt, user)


# Refusals


async def test_claims_that_the_server_does_not_take_are_refused(
    own_deployment: Deployment, registry: Connection
) -> None:
    good = own_deployment.account("AGENTS", issued_at=now())
    tampered = good[:-20] + ("A" if good[-20] != "A" else "B") + good[-19:]
    by_the_operator_itself = own_deployment.account("AGENTS", issued_at=now(), signer=own_deployment.operator)
    for jwt, reason in ((tampered, "signature"), (by_the_operator_itself, "signing key")):
        with pytest.raises(AccountPushRefusedError, match=reason):
            await push_account(registry.client, jwt)
    await push_account(registry.client, good)


async def test_claims_of_an_untrusted_operator_are_refused_though_the_server_says_updated(
    own_deployment: Deployment, connect_own: Connect, registry: Connection
) -> None:
    user = KeyPair.generate("user")
    agent = await connect_own(own_deployment.agent_jwt("alpha", user), user)
    stranger = KeyPair.generate("operator")
    foreign = own_deployment.account("AGENTS", issued_at=now(), signer=stranger, revocations={user.public: now()})
    with pytest.raises(AccountPushRefusedError, match="uses another"):
        await push_account(registry.client, foreign)
    await agent.publish("agents.alpha.logs", b"not revoked")

    # The stored JWT is the foreign one now, and would be loaded at the next start: a good one puts it right.
    await push_account(registry.client, own_deployment.account("AGENTS", issued_at=now() + 1))
    own_deployment.stop()
    own_deployment.start()
    await connect_own.agent("alpha")


async def test_what_is_not_an_account_is_not_pushed(own_deployment: Deployment, registry: Connection) -> None:
    user = KeyPair.generate("user")
    for text in ("", "not.a.jwt", own_deployment.agent_jwt("alpha", user)):
        with pytest.raises(InvalidClaimError):
            await push_account(registry.client, text)


async def test_more_revocations_than_a_message_holds_are_refused(
    own_deployment: Deployment, registry: Connection
) -> None:
    users = [_public_user_key(number) for number in range(11_500)]
    for count, fits in ((11_000, True), (11_500, False)):
        revocations = dict.fromkeys(users[:count], now())
        claims = own_deployment.account("AGENTS", issued_at=now(), revocations=revocations)
        if fits:
            await push_account(registry.client, claims)
        else:
            with pytest.raises(AccountPushRefusedError, match="more than a message may"):
                await push_account(registry.client, claims)


def _public_user_key(number: int) -> str:
    raw = bytes([20 << 3]) + number.to_bytes(32)
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode()


async def test_an_account_that_nobody_uses_yet_is_changed_too(
    own_deployment: Deployment, connect_own: Connect, registry: Connection
) -> None:
    user = KeyPair.generate("user")
    await push_account(
        registry.client,
        own_deployment.account("AGENTS", issued_at=now(), revocations={user.public: now()}),
    )
    await refused(connect_own, own_deployment.agent_jwt("alpha", user), user)


async def test_the_pushing_user_reaches_no_other_account_and_no_other_system_subject(
    own_deployment: Deployment, registry: Connection
) -> None:
    with pytest.raises(AccountPushUnansweredError):
        await push_account(registry.client, own_deployment.account("CORE", issued_at=now()), timeout_seconds=0.3)
    assert "permissions violation for publish" in await registry.refusal()
    subject = f"$SYS.REQ.ACCOUNT.{own_deployment.public('AGENTS')}.CLAIMS.UPDATE"
    answer = await registry.client.request(subject, own_deployment.account("CORE", issued_at=now()).encode())
    assert b"subject does not match" in answer.data
    for subject in (
        "$SYS.REQ.CLAIMS.UPDATE",
        "$SYS.REQ.CLAIMS.DELETE",
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.CLAIMS.LIST",
    ):
        await registry.publish(subject, b"")
        assert f'publish to "{subject.lower()}"' in await registry.refusal()
    await registry.subscribe("$SYS.>")
    assert 'subscription to "$sys.>"' in await registry.refusal()


async def test_a_user_outside_the_system_account_pushes_nothing(
    own_deployment: Deployment, connect_own: Connect
) -> None:
    for account in ("AGENTS", "CORE"):
        anything = Permissions((">",), (">",))
        service = await connect_own.user(account, "service", anything)
        with pytest.raises(AccountPushUnansweredError):
            await push_account(service.client, own_deployment.account("AGENTS", issued_at=now()), timeout_seconds=0.3)


async def test_no_server_to_answer_is_told_apart_from_a_refusal(
    own_deployment: Deployment, registry: Connection
) -> None:
    claims = own_deployment.account("AGENTS", issued_at=now())
    assert own_deployment.process is not None
    stand_still(own_deployment.process.pid)
    try:
        with pytest.raises(AccountPushUnansweredError):
            await push_account(registry.client, claims, timeout_seconds=0.2)
    finally:
        own_deployment.process.send_signal(signal.SIGCONT)
    async with asyncio.timeout(5):
        await push_account(registry.client, claims)
