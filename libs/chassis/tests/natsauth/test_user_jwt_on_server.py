"""Which user JWTs a real server accepts: what the holder of the scoped key can mint, and what nobody can."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import nats.errors
import pytest

from countersign_chassis.natsauth import KeyPair, Permissions, claims, creds_file

if TYPE_CHECKING:
    from .conftest import Connect, Deployment, RawConnection


async def rejected(connect: Connect, jwt: str, user: KeyPair) -> None:
    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        await connect(jwt, user)


async def test_permissions_of_its_own_signed_by_the_scoped_key_are_refused(
    connect: Connect, deployment: Deployment
) -> None:
    for permissions in (Permissions((">",), (">",)), Permissions((), ())):
        user = KeyPair.generate("user")
        await rejected(connect, deployment.agent_jwt("alpha", user, permissions=permissions), user)


async def test_the_scoped_key_opens_no_other_account(connect: Connect, deployment: Deployment) -> None:
    for account in ("CORE", "SYS"):
        user = KeyPair.generate("user")
        await rejected(connect, deployment.agent_jwt("alpha", user, account_public=deployment.public(account)), user)


async def test_the_scoped_key_can_be_every_agent_at_once_but_not_more(
    connect: Connect, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server puts even a wildcard into the template. `user_jwt` does not, but whoever stole the key."""
    monkeypatch.setattr(claims, "_NAME", re.compile(".*"))
    everyone = await connect.agent("*")
    await everyone.publish("agents.beta.actions", b"as beta")
    await everyone.subscribe("agents.*.results.>")
    await everyone.publish("actions.requested.beta", b"more")
    assert 'publish to "actions.requested.beta"' in await everyone.refusal()
    for name in (">", "*.*", "beta.actions", "a b", ""):
        other = await connect.agent(name)
        await other.publish("agents.beta.actions", b"as beta")
        assert 'publish to "agents.beta.actions"' in await other.refusal()


def test_a_jwt_without_permissions_by_a_plain_key_is_of_no_use(
    deployment: Deployment, raw_connection: type[RawConnection]
) -> None:
    user = KeyPair.generate("user")
    jwt = deployment.agent_jwt("alpha", user, issuer=deployment.signing["AGENTS"])
    with raw_connection(deployment, jwt, user) as connection:
        assert b"-ERR 'maximum subscriptions exceeded'" in connection.until_closed()


async def test_only_an_accounts_signing_keys_issue_its_users(connect: Connect, deployment: Deployment) -> None:
    for issuer in (deployment.accounts["AGENTS"], deployment.signing["CORE"], KeyPair.generate("account")):
        user = KeyPair.generate("user")
        jwt = deployment.agent_jwt("alpha", user, issuer=issuer, permissions=Permissions((">",), (">",)))
        await rejected(connect, jwt, user)


async def test_a_tampered_user_jwt_is_refused(connect: Connect, deployment: Deployment) -> None:
    user = KeyPair.generate("user")
    header, payload, signature = deployment.agent_jwt("alpha", user).split(".")
    other_payload = deployment.agent_jwt("beta", user).split(".")[1]
    await rejected(connect, f"{header}.{other_payload}.{signature}", user)
    changed = signature[:10] + ("A" if signature[10] != "A" else "B") + signature[11:]
    await rejected(connect, f"{header}.{payload}.{changed}", user)


async def test_a_jwt_without_its_seed_is_refused(connect: Connect, deployment: Deployment) -> None:
    user, thief = KeyPair.generate("user"), KeyPair.generate("user")
    stolen = creds_file(deployment.agent_jwt("alpha", user), user.seed).replace(user.seed, thief.seed)
    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        await connect.with_credentials(stolen)
