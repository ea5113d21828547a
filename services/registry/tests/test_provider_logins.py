"""Logging in with an OpenID provider, a real one over HTTP: who is let in, and everything that proves nobody."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from countersign_contracts.enrolment import token_sha256
from countersign_contracts.errors import CountersignError
from countersign_contracts.logins import IssuedAccess, RefreshLogin
from countersign_contracts.people_commands import AddPerson, RemovePerson, SetRoles
from countersign_contracts.provider_commands import DescribeProvider, LogInWithProvider, ProviderCode
from countersign_harness.openid import SECRET, Key, OpenId
from countersign_registry.settings import Settings

if TYPE_CHECKING:
    from .conftest import Fleet

ANN = "ann@example.com"


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[OpenId]:
    provider = OpenId()
    await provider.start()
    provider.who = {"email": ANN}
    yield provider
    await provider.stop()


async def log_in(fleet: Fleet, provider: OpenId, **wrong: str) -> IssuedAccess:
    proof = ProviderCode(**await provider.proof(**wrong))
    issued: IssuedAccess = await fleet.bus.ask(LogInWithProvider(proof=proof))
    return issued


async def refused(fleet: Fleet, provider: OpenId, problem: str, says: str, **wrong: str) -> None:
    with pytest.raises(CountersignError, match=says) as refusal:
        await log_in(fleet, provider, **wrong)
    assert refusal.value.code == problem, refusal.value.detail


def encoded(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


async def test_a_declared_person_logs_in_and_whatever_proves_nobody_does_not(fleet: Fleet, provider: OpenId) -> None:
    await fleet.run(**provider.settings())
    described = await fleet.bus.ask(DescribeProvider())
    assert (described.issuer, described.authorization_endpoint) == (provider.issuer, f"{provider.issuer}/authorize")
    await refused(fleet, provider, "forbidden", f"countersign people add {ANN}")
    await fleet.bus.ask(AddPerson(name=ANN, roles=("approver",), by="admin"))
    await fleet.bus.ask(AddPerson(name="bob@example.com", roles=("admin",), by="admin"))

    issued = await log_in(fleet, provider)
    assert (issued.name, issued.roles) == (ANN, ("approver",))
    await fleet.bus.ask(RefreshLogin(refresh_sha256=token_sha256(issued.refresh_token)))
    assert [row["proof"] for row in await fleet.sql("SELECT proof FROM login")] == ["provider"]

    at = int(time.time())
    for changes, says in (
        ({"aud": "another-client"}, "Audience"),
        ({"aud": ["countersign-cli", "another"]}, "azp"),
        ({"aud": ["countersign-cli", "another"], "azp": "another"}, "azp"),
        ({"azp": "another"}, "azp"),
        ({"iss": "https://elsewhere.example.com"}, "issuer"),
        ({"iss": provider.issuer + "/"}, "issuer"),
        ({"nonce": "of-another-request"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"exp": at - 61}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": "later"}, "no numbers"),
        ({"iat": at + 90}, "future"),
        ({"iat": at - 700}, "earlier login"),
        ({"nbf": at + 90}, "future"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "names nobody"),
        ({"email_verified": False}, "email_verified"),
        ({"email_verified": "true"}, "email_verified"),
        ({"email_verified": None}, "email_verified"),
        ({"email": None}, "no `email`"),
        ({"email": [ANN]}, "no `email`"),
        ({"email": ANN + "\n"}, "no `email`"),
    ):
        provider.changes = changes
        await refused(fleet, provider, "unauthenticated", says)
    for email in (ANN.upper(), "Ann@example.com", "annx@example.com"):  # to the letter
        provider.changes = {"email": email}
        await refused(fleet, provider, "forbidden", "Countersign does not")
    provider.changes = {"sub": "account-2"}  # the address is somebody else's now
    await refused(fleet, provider, "forbidden", "another account")
    provider.changes = {"email": "bob@example.com"}  # the account has another address now
    await refused(fleet, provider, "forbidden", "another account")
    provider.changes = {"email": "admin"}
    await refused(fleet, provider, "forbidden", "whoever has the deployment's token file")
    provider.changes = {}
    await refused(fleet, provider, "unauthenticated", "invalid_grant", code="made-up")
    await refused(fleet, provider, "unauthenticated", "invalid_grant", code_verifier="x" * 43)
    await refused(fleet, provider, "unauthenticated", "nonce", nonce="y" * 22)
    await log_in(fleet, provider)

    # an admin's new token is a new beginning: the next account that comes is theirs
    await fleet.bus.ask(AddPerson(name=ANN, roles=("reader",), by="admin"))
    provider.changes = {"sub": "account-2"}
    assert (await log_in(fleet, provider)).roles == ("reader",)
    await fleet.bus.ask(RemovePerson(name=ANN, by="admin"))
    await refused(fleet, provider, "forbidden", "was removed")


async def test_only_the_provider_s_own_keys_sign_and_new_ones_are_found(fleet: Fleet, provider: OpenId) -> None:
    secret = fleet.stack.layout.root / "client.secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    provider.secret = SECRET
    await fleet.run(**provider.settings(oidc_client_secret_file=secret))
    await fleet.bus.ask(AddPerson(name=ANN, roles=("reader",), by="admin"))
    await log_in(fleet, provider)
    first = provider.key

    def hs256(claims: dict[str, Any], **header: Any) -> str:
        pem = first.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        signed = f"{encoded({'alg': 'HS256', 'kid': first.kid, **header})}.{encoded(claims)}"
        return f"{signed}.{encoded(hmac.digest(pem, signed.encode(), hashlib.sha256))}"

    stranger, same_kid = Key("stranger", "RS256"), Key(first.kid, "RS256")
    for token, says in (
        (lambda claims: f"{encoded({'alg': 'none', 'kid': first.kid})}.{encoded(claims)}.", "signed by `none`"),
        (hs256, "signed by `HS256`"),
        (lambda claims: hs256(claims, alg="RS256"), "Signature verification failed"),
        (stranger.sign, "no key `stranger`"),
        (same_kid.sign, "Signature verification failed"),
        (lambda claims: first.sign(claims, kid=""), "which key"),
        (lambda claims: first.sign(claims) + "A", "proves nothing"),
        (lambda _: "no token", "cannot be read"),
        (lambda claims: Key(first.kid, "ES256").sign(claims), "not for signatures by ES256"),
    ):
        provider.token = token
        await refused(fleet, provider, "unauthenticated", says)
    provider.token = lambda claims: provider.key.sign(claims)
    known = provider.asked.count("keys")
    await log_in(fleet, provider)
    assert provider.asked.count("keys") == known and provider.asked.count("configuration") == 1, "kept for a while"

    await fleet.run(**provider.settings(oidc_client_secret_file=secret))
    for algorithm in ("ES256", "EdDSA"):
        provider.rotate(algorithm)
        await fleet.until(lambda: _works(fleet, provider), 30)
    secret.write_text("another one\n")
    await refused(fleet, provider, "unauthenticated", "invalid_client")
    await provider.stop()
    with pytest.raises(CountersignError, match="does not answer") as refusal:
        await fleet.bus.ask(
            LogInWithProvider(
                proof=ProviderCode(
                    code="c", code_verifier="v" * 43, redirect_uri="http://127.0.0.1:1/callback", nonce="n" * 16
                )
            )
        )
    assert refusal.value.code == "unavailable"


async def _works(fleet: Fleet, provider: OpenId) -> bool:
    """Keys that are not known are looked for again within seconds, and no sooner."""
    try:
        await log_in(fleet, provider)
    except CountersignError as error:
        assert "has no key" in error.detail
        return False
    return True


async def test_who_is_in_a_mapped_group_is_added_and_is_nobody_without_it(fleet: Fleet, provider: OpenId) -> None:
    await without_a_provider_there_is_none_and_a_private_one_is_allowed_by_name(fleet, provider)
    mapping = {"platform": ("operator",), "finance": ("approver", "reader")}
    await fleet.run(**provider.settings(oidc_groups_claim="groups", oidc_roles_of_groups=mapping))
    provider.changes = {"groups": ["strangers", 7]}
    await refused(fleet, provider, "forbidden", "Countersign does not")
    provider.changes = {"groups": "finance"}
    await refused(fleet, provider, "forbidden", "Countersign does not")
    provider.changes = {"groups": ["strangers", "finance"]}
    first = await log_in(fleet, provider)
    assert first.roles == ("approver", "reader")
    provider.changes = {"groups": ["platform"]}
    assert (await log_in(fleet, provider)).roles == ("operator",)
    assert (await fleet.shown_person(ANN)).permissions >= {"fleet", "stop"}

    provider.changes = {"groups": []}
    await refused(fleet, provider, "forbidden", "Countersign does not")
    assert (await fleet.shown_person(ANN)).status == "removed"
    with pytest.raises(CountersignError, match="void"):
        await fleet.bus.ask(RefreshLogin(refresh_sha256=token_sha256(first.refresh_token)))
    provider.changes = {"groups": ["finance"]}
    await log_in(fleet, provider)

    # whom an admin changed or removed is the admin's
    await fleet.bus.ask(SetRoles(name=ANN, roles=("reader",), by="admin"))
    provider.changes = {"groups": ["platform"]}
    assert (await log_in(fleet, provider)).roles == ("reader",)
    await fleet.bus.ask(RemovePerson(name=ANN, by="admin"))
    await refused(fleet, provider, "forbidden", "was removed")


async def without_a_provider_there_is_none_and_a_private_one_is_allowed_by_name(fleet: Fleet, provider: OpenId) -> None:
    await fleet.run()
    with pytest.raises(CountersignError, match="no OpenID provider is configured") as refusal:
        await fleet.bus.ask(DescribeProvider())
    assert refusal.value.code == "not_found"
    issuer = provider.issuer.replace("http:", "https:")
    await fleet.run(oidc_issuer=issuer, oidc_client_id="c")
    with pytest.raises(CountersignError, match="`allow_private` is not declared"):
        await fleet.bus.ask(DescribeProvider())


@pytest.mark.parametrize(
    "settings",
    [
        {"oidc_issuer": "https://id.example.com"},
        {"oidc_issuer": "http://id.example.com", "oidc_client_id": "c"},
        {"oidc_issuer": "ftp://id.example.com", "oidc_client_id": "c"},
        {"oidc_roles_of_groups": {"g": ["reader"]}},
        {"oidc_roles_of_groups": {"g": ["No Role"]}, "oidc_groups_claim": "groups"},
    ],
)
def test_half_a_provider_is_refused_at_the_start(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="oidc_"):
        Settings(**settings)
