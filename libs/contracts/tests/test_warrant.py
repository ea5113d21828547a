"""A warrant permits one execution of one action, and whatever about it is wrong permits nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from countersign_contracts import warrant
from countersign_contracts.actions import Action
from countersign_contracts.warrant import InvalidWarrant, issue, verify
from countersign_ledger import SigningKey

if TYPE_CHECKING:
    from .conftest import Keys

MINUTE = timedelta(minutes=1)
Json = dict[str, Any]


def encoded(value: Json | bytes) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def forged(claims: Json, key: SigningKey, **header: Any) -> str:
    """A token put together by hand, so that it may say anything."""
    head = {"alg": "EdDSA", "typ": warrant.TYPE, "kid": key.kid} | header
    signed = f"{encoded(head)}.{encoded(claims)}"
    return f"{signed}.{encoded(key.sign(signed.encode()))}"


@pytest.fixture
def token(action: Action, keys: Keys, at: datetime) -> str:
    return issue(action, policy_version="v1", approval_id="apr_1", at=at, lifetime=5 * MINUTE, key=keys["policy"])


@pytest.fixture
def claims(token: str) -> Json:
    value: Json = json.loads(decoded(token.split(".")[1]))
    return value


@pytest.fixture
def permits(action: Action, keys: Keys, at: datetime) -> Callable[..., warrant.Warrant]:
    """Verify a token for the action, a minute later."""
    return lambda token, **other: verify(token, **{"action": action, "at": at + MINUTE, "trust": keys.trust} | other)


Permits = Callable[..., warrant.Warrant]


def test_a_warrant_permits_its_action(token: str, permits: Permits, action: Action) -> None:
    permitted = permits(token)
    assert (permitted.jti, permitted.sub, permitted.digest) == (action.request_id, "support-1", action.digest)
    assert permitted.act == ("person:alice@example.com", "agent:planner")
    assert (permitted.policy_version, permitted.approval_id) == ("v1", "apr_1")


def test_anyone_can_check_it_by_the_standards(token: str, action: Action, keys: Keys, at: datetime) -> None:
    header, payload, signature = token.split(".")
    public = Ed25519PublicKey.from_public_bytes(keys.trust.keys[keys["policy"].kid].public_key)
    public.verify(decoded(signature), f"{header}.{payload}".encode())  # RFC 8037
    assert json.loads(decoded(header)) == {"alg": "EdDSA", "kid": keys["policy"].kid, "typ": "countersign.warrant.v1"}
    assert json.loads(decoded(payload)) == {
        "iss": "countersign/policy",
        "sub": "support-1",
        "aud": "countersign/executor",
        "jti": action.request_id,
        "iat": int(at.timestamp()),
        "exp": int(at.timestamp()) + 300,
        "digest": action.digest,
        "policy_version": "v1",
        "approval_id": "apr_1",
        "act": ["person:alice@example.com", "agent:planner"],
    }


def test_what_is_forged_here_would_be_taken_if_it_were_right(claims: Json, permits: Permits, keys: Keys) -> None:
    assert permits(forged(claims, keys["policy"])).jti == claims["jti"]


WRONG_CLAIMS: dict[str, tuple[Json, str]] = {
    "another issuer": ({"iss": "countersign/gateway"}, "not by countersign/policy"),
    "another audience": ({"aud": "countersign/audit"}, "not by countersign/policy"),
    "several audiences": ({"aud": ["countersign/executor", "others"]}, "aud"),
    "another agent": ({"sub": "support-2"}, "another action"),
    "another request": ({"jti": "0197a3b2-7c00-7000-8000-000000000002"}, "another action"),
    "another digest": ({"digest": "sha256:" + "0" * 64}, "digest"),
    "a digest of another form": ({"digest": "md5:0"}, "digest"),
    "another principal": ({"act": ["person:mallory@example.com", "agent:planner"]}, "another principal chain"),
    "no principal": ({"act": []}, "another principal chain"),
    "principals in another order": ({"act": ["agent:planner", "person:alice@example.com"]}, "another principal chain"),
    "expired long ago": ({"exp": 1}, "expired"),
    "an expiry that is no number": ({"exp": "never"}, "could not be verified"),
    "a claim nobody knows": ({"scope": "everything"}, "scope"),
    "a start in the future": ({"nbf": 4_000_000_000}, "extra inputs are not permitted"),
}


@pytest.mark.parametrize(("change", "message"), WRONG_CLAIMS.values(), ids=WRONG_CLAIMS.keys())
def test_a_wrong_claim_permits_nothing_though_policy_signed_it(
    claims: Json, permits: Permits, keys: Keys, change: Json, message: str
) -> None:
    with pytest.raises(InvalidWarrant, match=message):
        permits(forged(claims | change, keys["policy"]))


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "jti", "iat", "exp", "digest", "policy_version"])
def test_a_missing_claim_permits_nothing(claims: Json, permits: Permits, keys: Keys, claim: str) -> None:
    del claims[claim]
    with pytest.raises(InvalidWarrant, match=claim):
        permits(forged(claims, keys["policy"]))


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "jti", "iat", "exp", "digest", "policy_version", "act"])
def test_no_claim_can_be_altered_after_it_was_signed(token: str, claims: Json, permits: Permits, claim: str) -> None:
    header, _, signature = token.split(".")
    altered = claims | {claim: 4_000_000_000 if claim in ("iat", "exp") else "x"}
    with pytest.raises(InvalidWarrant, match=r"[Ss]ignature"):
        permits(f"{header}.{encoded(altered)}.{signature}")


@pytest.mark.parametrize("service", ["gateway", "approvals", "executor", "audit", "registry"])
def test_no_other_service_can_issue_one(claims: Json, permits: Permits, keys: Keys, service: str) -> None:
    with pytest.raises(InvalidWarrant, match=f"of {service} may not sign"):
        permits(forged(claims, keys[service]))
    with pytest.raises(InvalidWarrant, match=r"[Ss]ignature"):
        permits(forged(claims, keys[service], kid=keys["policy"].kid))


def test_a_stranger_cannot_issue_one(claims: Json, permits: Permits, keys: Keys) -> None:
    stranger = SigningKey.generate("policy")
    with pytest.raises(InvalidWarrant, match="no key"):
        permits(forged(claims, stranger))
    with pytest.raises(InvalidWarrant, match=r"[Ss]ignature"):
        permits(forged(claims, stranger, kid=keys["policy"].kid))


@pytest.mark.parametrize("header", [{"typ": "JWT"}, {"typ": None}, {"typ": "countersign.result.v1"}])
def test_another_kind_of_token_is_no_warrant(claims: Json, permits: Permits, keys: Keys, header: Json) -> None:
    with pytest.raises(InvalidWarrant, match="not a warrant"):
        permits(forged(claims, keys["policy"], **header))


@pytest.mark.parametrize("header", [{"kid": None}, {"kid": 7}, {"kid": ""}, {"crit": ["exp"]}])
def test_an_odd_header_permits_nothing(claims: Json, permits: Permits, keys: Keys, header: Json) -> None:
    with pytest.raises(InvalidWarrant):
        permits(forged(claims, keys["policy"], **header))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE"])
def test_an_unsigned_token_permits_nothing(claims: Json, permits: Permits, keys: Keys, algorithm: str) -> None:
    head = {"alg": algorithm, "typ": warrant.TYPE, "kid": keys["policy"].kid}
    for signature in ("", encoded(keys["policy"].sign(b""))):
        with pytest.raises(InvalidWarrant):
            permits(f"{encoded(head)}.{encoded(claims)}.{signature}")


def test_the_public_key_is_no_shared_secret(claims: Json, permits: Permits, keys: Keys) -> None:
    """RFC 8725, 2.1: the public key, in any of its forms, taken for the secret of an HMAC."""
    public = Ed25519PublicKey.from_public_bytes(keys["policy"].public_bytes)
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = f"{encoded({'alg': 'HS256', 'typ': warrant.TYPE, 'kid': keys['policy'].kid})}.{encoded(claims)}"
    for secret in (keys["policy"].public_bytes, pem, encoded(keys["policy"].public_bytes).encode()):
        signature = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        with pytest.raises(InvalidWarrant):
            permits(f"{signed}.{encoded(signature)}")


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "{}", "é.é.é", "a" * 100_000])
def test_what_is_no_token_permits_nothing(permits: Permits, token: str) -> None:
    with pytest.raises(InvalidWarrant):
        permits(token)


def test_it_permits_until_the_second_it_expires(token: str, permits: Permits, at: datetime) -> None:
    permits(token, at=at + 5 * MINUTE - timedelta(microseconds=1))
    with pytest.raises(InvalidWarrant, match="expired 0 s ago"):
        permits(token, at=at + 5 * MINUTE)
    with pytest.raises(InvalidWarrant, match="expired 60 s ago"):
        permits(token, at=at + 6 * MINUTE)


def test_leeway_is_given_only_where_it_is_asked_for(token: str, permits: Permits, at: datetime) -> None:
    permits(token, at=at + 5 * MINUTE + timedelta(seconds=9), leeway=timedelta(seconds=10))
    with pytest.raises(InvalidWarrant, match="expired"):
        permits(token, at=at + 5 * MINUTE + timedelta(seconds=10), leeway=timedelta(seconds=10))


@pytest.mark.parametrize(
    "change",
    [
        {"request_id": "0197a3b2-7c00-7000-8000-000000000002"},
        {"agent_id": "support-2"},
        {"principal_chain": ()},
        {"principal_chain": ("person:mallory@example.com",)},
        {"session_id": "run-2"},
        {"env": "dev"},
        {"tool": "delete_ticket"},
        {"tool_version": 4},
        {"args": {"ticket_id": 8, "status": "closed"}},
    ],
    ids=str,
)
def test_it_permits_no_other_action(token: str, permits: Permits, action: Action, change: Json) -> None:
    other = action.model_copy(update=change)
    with pytest.raises(InvalidWarrant):
        permits(token, action=other)
    with pytest.raises(InvalidWarrant):
        permits(token, action=other.model_copy(update={"digest": other.computed_digest()}))


def test_it_permits_no_action_that_states_another_digest_than_it_has(
    token: str, permits: Permits, action: Action
) -> None:
    with pytest.raises(InvalidWarrant, match="digest"):
        permits(token, action=action.model_copy(update={"digest": "sha256:" + "0" * 64}))


def test_without_an_approval_none_is_claimed(action: Action, keys: Keys, at: datetime, permits: Permits) -> None:
    token = issue(action, policy_version="v1", approval_id=None, at=at, lifetime=MINUTE * 2, key=keys["policy"])
    assert "approval_id" not in jwt.decode(token, options={"verify_signature": False})
    assert permits(token).approval_id is None
