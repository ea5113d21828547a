"""The access token: a JWT (RFC 9068, EdDSA) by which a person, or automation, is known at the gateway for minutes.

Only the registry issues it, with its key of the trust bundle. It says who its holder is and by which login, never what
they may do: roles are looked up where it is used, and so is whether the login has ended.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import orjson
from pydantic import ValidationError

from countersign_ledger import SigningKey, TrustBundle, UntrustedError

from .errors import CountersignError
from .ids import prefixed
from .jws_parts import decode, encode
from .model import Frozen
from .retirement import require_in_force

#: What the issuer's key must be entitled to sign.
TYPE = "countersign.access_token.v1"
ISSUER = "countersign/registry"
AUDIENCE = "countersign/gateway"
#: Clocks of the registry and the gateway differ by no more than this.
LEEWAY = timedelta(seconds=5)
_ALGORITHM = "EdDSA"
_JWT_TYPE = "at+jwt"
_MAX_CHARACTERS = 4096


class InvalidAccessToken(CountersignError):
    """The access token proves nothing."""

    code = "unauthenticated"


class AccessToken(Frozen):
    """The claims. ``iat`` and ``exp`` are seconds since 1970 (RFC 7519 NumericDate)."""

    iss: str
    sub: str
    aud: str
    jti: str
    sid: str
    rev: int
    iat: int
    exp: int


def issue(
    person: str, login_id: str, revision: int, *, at: datetime, until: datetime, key: SigningKey
) -> tuple[str, datetime]:
    """A signed token, and when it ends. ``revision`` is of the record in bucket `logins` that names the login."""
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "sub": person,
        "aud": AUDIENCE,
        "jti": prefixed("act"),
        "sid": login_id,
        "rev": revision,
        "iat": int(at.timestamp()),
        "exp": int(until.timestamp()),
    }
    header = {"alg": _ALGORITHM, "kid": key.kid, "typ": _JWT_TYPE}
    signed = b".".join((encode(orjson.dumps(header)), encode(orjson.dumps(claims))))
    return b".".join((signed, encode(key.sign(signed)))).decode("ascii"), until.replace(microsecond=0)


def looks_like_one(token: str) -> bool:
    """Whether this is a compact JWS (RFC 7515): no other token of ours has dots."""
    return token.count(".") == 2


def verify(token: str, *, at: datetime, trust: TrustBundle) -> AccessToken:
    """The claims of ``token`` if they count at time ``at``; raises :class:`InvalidAccessToken`.

    Checked: algorithm and type are the ones used here and nothing else stands in the header, the key is entitled to
    issue access tokens, signature, issuer, audience, and that it neither ended nor is of the future.
    """
    try:
        if len(token) > _MAX_CHARACTERS:
            raise ValueError("too long")
        signed, signature = token.rsplit(".", 1)
        head, payload = signed.split(".")
        header = orjson.loads(decode(head))
        if set(header) != {"alg", "typ", "kid"} or (header["alg"], header["typ"]) != (_ALGORITHM, _JWT_TYPE):
            raise ValueError("its header is not that of an access token")
        require_in_force(trust.verify(str(header["kid"]), TYPE, signed.encode("ascii"), decode(signature)), at)
        claims = AccessToken.model_validate_json(decode(payload), strict=True)
    except (UntrustedError, ValidationError, ValueError, AttributeError, TypeError):
        # not the reason: it would tell who forges how far they came
        raise InvalidAccessToken("this is no access token of this system; `countersign login` gives one") from None
    if claims.iss != ISSUER or claims.aud != AUDIENCE:
        raise InvalidAccessToken(f"the token is by {claims.iss!r} for {claims.aud!r}: it is not for the gateway")
    seconds, leeway = at.timestamp(), LEEWAY.total_seconds()
    if seconds >= claims.exp + leeway:
        raise InvalidAccessToken(
            "the access token has expired; exchange the refresh token at POST /api/v1/tokens, or `countersign login`"
        )
    if claims.iat > seconds + leeway:
        raise InvalidAccessToken("the access token was issued in the future: the clocks of the hosts differ")
    return claims
