"""An access token names a person for minutes, and whatever about it is wrong proves nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from countersign_contracts import access_token
from countersign_contracts.access_token import InvalidAccessToken, issue, verify
from countersign_ledger import SigningKey

if TYPE_CHECKING:
    from .conftest import Keys

MINUTE = timedelta(minutes=1)
LOGIN = "lgn_" + "0" * 32


def encoded(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


@pytest.fixture
def token(keys: Keys, at: datetime) -> str:
    return issue("ann@example.com", LOGIN, 3, at=at, until=at + 15 * MINUTE, key=keys["registry"])[0]


def test_it_says_who_logged_in_and_until_when(token: str, keys: Keys, at: datetime) -> None:
    claims = verify(token, at=at + MINUTE, trust=keys.trust)
    assert (claims.sub, claims.sid, claims.rev) == ("ann@example.com", LOGIN, 3)
    assert (claims.iat, claims.exp) == (int(at.timestamp()), int((at + 15 * MINUTE).timestamp()))
    assert access_token.looks_like_one(token)
    other = issue("ann@example.com", LOGIN, 3, at=at, until=at + 15 * MINUTE, key=keys["registry"])[0]
    assert verify(other, at=at, trust=keys.trust).jti != claims.jti


def test_another_library_reads_it(token: str, keys: Keys) -> None:
    public = Ed25519PublicKey.from_public_bytes(keys["registry"].public_bytes)
    options: Any = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(
        token, public, algorithms=["EdDSA"], audience=access_token.AUDIENCE, issuer=access_token.ISSUER, options=options
    )
    assert claims["sub"] == "ann@example.com"
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "typ": "at+jwt", "kid": keys["registry"].kid}


@pytest.mark.parametrize(
    ("minutes", "counts"), [(-1, False), (-0.05, True), (0, True), (14, True), (15.05, True), (15.1, False)]
)
def test_it_counts_for_its_time(token: str, keys: Keys, at: datetime, minutes: float, counts: bool) -> None:
    if counts:
        verify(token, at=at + minutes * MINUTE, trust=keys.trust)
        return
    with pytest.raises(InvalidAccessToken, match=r"expired|in the future"):
        verify(token, at=at + minutes * MINUTE, trust=keys.trust)


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ({"alg": "none"}, {}),
        ({"alg": "HS256"}, {}),
        ({"alg": "eddsa"}, {}),
        ({"typ": "JWT"}, {}),
        ({"typ": "countersign.warrant.v1"}, {}),
        ({"kid": "registry-000000000000"}, {}),
        ({"kid": None}, {}),
        ({"crit": ["exp"]}, {}),
        ({"jwk": {}}, {}),
        ({}, {"iss": "countersign/gateway"}),
        ({}, {"iss": ""}),
        ({}, {"aud": "countersign/executor"}),
        ({}, {"aud": ["countersign/gateway"]}),
        ({}, {"exp": "2026"}),
        ({}, {"exp": 1e99}),
        ({}, {"exp": None}),
        ({}, {"roles": ["admin"]}),
        ({}, {"sid": None}),
    ],
)
def test_whatever_is_wrong_about_it_proves_nothing(
    token: str, keys: Keys, at: datetime, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    head, body, _ = token.split(".")
    signed = f"{encoded(decoded(head) | header)}.{encoded(decoded(body) | claims)}"
    forged = f"{signed}.{encoded(keys['registry'].sign(signed.encode()))}"
    with pytest.raises(InvalidAccessToken) as refusal:
        verify(forged, at=at, trust=keys.trust)
    assert refusal.value.code == "unauthenticated"


def test_no_other_key_signs_one(token: str, keys: Keys, at: datetime) -> None:
    head, body, signature = token.split(".")
    made = []
    for key in (SigningKey.generate("registry"), keys["gateway"]):
        signed = f"{encoded(decoded(head) | {'kid': key.kid})}.{body}"
        made.append(f"{signed}.{encoded(key.sign(signed.encode()))}")
    mac = hmac.digest(keys["registry"].public_bytes, f"{head}.{body}".encode(), hashlib.sha256)
    made += [
        f"{head}.{body}.{encoded(mac)}",  # the public key as a secret
        f"{head}.{body}.",
        f"{head}.{body}.{signature}=",
        f"{head}.{body}.{signature[:-1]}",
        f"{head}.{encoded(decoded(body) | {'sub': 'admin'})}.{signature}",
        f"{head}.{body}.{signature}" + "A" * 5000,
    ]
    for one in made:
        with pytest.raises(InvalidAccessToken):
            verify(one, at=at, trust=keys.trust)
