"""Who an ID token names, or why it names nobody (OpenID Connect Core 1.0, section 3.1.3.7). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jwt

from countersign_contracts.approval_rules import PERSON_PATTERN
from countersign_contracts.errors import CountersignError

#: Signatures by a key that only the provider has: no `none`, and no secret that a public key could be taken for.
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
#: Clocks of the provider and the registry differ by no more than this; seconds.
SKEW_S = 60
#: The code was exchanged a moment ago: an older token is of another login.
_OLDEST_S = 600
_RSA_BITS = 2048


class NotProven(CountersignError):
    """What the provider said proves nobody."""

    code = "unauthenticated"


class UnknownKey(NotProven):
    """No key of that id is known: the provider may have new ones."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What an ID token must say."""

    issuer: str
    client_id: str
    nonce: str


def key_id(token: str) -> str:
    """The id of the key that signed it, as it says; raises :class:`NotProven`."""
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError as error:
        raise NotProven(f"the provider's ID token cannot be read: {error}") from None
    if header.get("alg") not in ALGORITHMS:
        raise NotProven(f"the ID token is signed by `{header.get('alg')}`; taken are {', '.join(ALGORITHMS)}")
    kid = header.get("kid")
    if not isinstance(kid, str) or not kid:
        raise NotProven("the ID token does not say which key signed it (`kid`)")
    return kid


def read(token: str, keys: Mapping[str, Mapping[str, Any]], expected: Expected, at: datetime) -> dict[str, Any]:
    """The claims of a token that proves somebody; raises :class:`NotProven`, :class:`UnknownKey`."""
    kid = key_id(token)
    if kid not in keys:
        raise UnknownKey(f"the provider has no key `{kid}`")
    algorithm = str(jwt.get_unverified_header(token)["alg"])
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            _key(keys[kid], algorithm),
            algorithms=[algorithm],
            audience=expected.client_id,
            issuer=expected.issuer,
            options={
                "require": ["iss", "sub", "aud", "exp", "iat", "nonce"],
                # times are judged below, by the caller's clock
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
    except jwt.PyJWTError as error:
        raise NotProven(f"the provider's ID token proves nothing: {error}") from None
    _require_for_us(claims, expected)
    _require_now(claims, at.timestamp())
    return claims


def _key(jwk: Mapping[str, Any], algorithm: str) -> Any:
    if jwk.get("use") not in (None, "sig") or jwk.get("alg") not in (None, algorithm):
        raise NotProven(f"the provider's key `{jwk.get('kid')}` is not for signatures by {algorithm}")
    try:
        key = jwt.PyJWK(dict(jwk), algorithm=algorithm).key
    except jwt.PyJWTError as error:
        raise NotProven(f"the provider's key `{jwk.get('kid')}` is none for {algorithm}: {error}") from None
    if getattr(key, "key_size", _RSA_BITS) < _RSA_BITS and jwk.get("kty") == "RSA":
        raise NotProven(f"the provider's key `{jwk.get('kid')}` has fewer than {_RSA_BITS} bits")
    return key


def _require_for_us(claims: Mapping[str, Any], expected: Expected) -> None:
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if claims.get("azp", None if several else expected.client_id) != expected.client_id:
        raise NotProven("the ID token was issued to another client (`azp`)")
    if claims["nonce"] != expected.nonce:
        raise NotProven("the ID token is of another login (`nonce`)")
    if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 255:
        raise NotProven("the ID token names nobody (`sub`)")


def _require_now(claims: Mapping[str, Any], now: float) -> None:
    times = {name: claims.get(name, 0) for name in ("exp", "iat", "nbf")}
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in times.values()):
        raise NotProven("the ID token's times are no numbers")
    if now >= times["exp"] + SKEW_S:
        raise NotProven("the ID token has expired")
    if times["iat"] > now + SKEW_S or times["nbf"] > now + SKEW_S:
        raise NotProven("the ID token is of the future: the clocks of the hosts differ")
    if times["iat"] < now - _OLDEST_S:
        raise NotProven("the ID token is of an earlier login")


def person_named(claims: Mapping[str, Any], claim: str) -> str:
    """The person's name by the configured claim, to the letter; an email address only if the provider verified it."""
    name = claims.get(claim)
    if not isinstance(name, str) or not re.fullmatch(PERSON_PATTERN, name):
        raise NotProven(f"the provider gave no `{claim}` that could be a person's name")
    if claim == "email" and claims.get("email_verified") is not True:
        raise NotProven(f"the provider has not verified that {name} is theirs (`email_verified`)")
    return name


def groups_named(claims: Mapping[str, Any], claim: str | None) -> tuple[str, ...]:
    """The provider's groups by the configured claim; none where it is not a list of texts."""
    found = claims.get(claim) if claim is not None else None
    if not isinstance(found, list):
        return ()
    return tuple(group for group in found if isinstance(group, str))
