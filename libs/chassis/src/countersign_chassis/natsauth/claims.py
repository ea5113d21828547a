"""Minting NATS JWTs (claims version 2): who may connect, into which account, and what it may say and hear.

Pure: time is an argument, nothing is read or sent. What the claims mean is written in the Go library
(https://github.com/nats-io/jwt, v2) and NATS ADR-14; the server (2.15) enforces them.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from .keys import InvalidKeyError, KeyKind, KeyPair, require_public_key
from .permissions import (
    AccountLimits,
    ConnectionLimits,
    InvalidClaimError,
    JetStreamLimits,
    Permissions,
    ScopedKey,
)

EVERY_USER: Final = "*"
"""As a key of `revocations`: every user of the account."""

_HEADER: Final = {"typ": "JWT", "alg": "ed25519-nkey"}
_VERSION: Final = 2
# One subject token without wildcards, since a signing key's template puts a user's name into subjects.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_LATEST_SECOND: Final = 1 << 33  # in the year 2242


def operator_jwt(
    operator: KeyPair,
    *,
    signing_keys: Sequence[str],
    system_account: str,
    issued_at: int,
    name: str = "countersign",
) -> str:
    """The self-signed root of trust, for the server's configuration.

    `signing_keys` are the public operator keys that sign account JWTs. The operator's own key does not
    (strict usage): after bootstrap it can rest offline, and a lost signing key is replaced without a new
    operator.
    """
    _require_kind(operator, "operator")
    if not signing_keys:
        raise InvalidClaimError("an operator needs at least one signing key")
    nats: dict[str, Any] = {
        "signing_keys": [require_public_key(key, "operator") for key in signing_keys],
        "system_account": require_public_key(system_account, "account"),
        "strict_signing_key_usage": True,
        "type": "operator",
    }
    return _encode(operator, name, operator.public, nats, issued_at)


def account_jwt(
    name: str,
    account_public: str,
    signer: KeyPair,
    *,
    issued_at: int,
    signing_keys: Sequence[str] = (),
    scoped_keys: Sequence[ScopedKey] = (),
    jetstream: JetStreamLimits | None = None,
    limits: AccountLimits | None = None,
    revocations: Mapping[str, int] | None = None,
) -> str:
    """An account's claims, signed by one of the operator's signing keys.

    `signing_keys` may issue users with any permissions in this account, `scoped_keys` only with their
    template's. `revocations` maps a user's public key (or EVERY_USER) to unix seconds: JWTs of that user
    issued at or before that second are refused, and their connections dropped. It is the whole list each
    time, not an addition.

    A restarting server keeps the JWT with the later `issued_at`, of the one in its configuration and the
    one pushed last, and the configured one if they are equal: an update needs a later second than what it
    replaces (`max(now, previous + 1)`). The server takes at most 1 MiB, which is about 11,000 revocations.
    """
    _require_kind(signer, "operator")
    public_keys = [*signing_keys, *(scoped.public for scoped in scoped_keys)]
    if len(set(public_keys)) != len(public_keys):
        raise InvalidClaimError("the same signing key is listed twice")
    nats: dict[str, Any] = {
        "limits": (limits or AccountLimits()).claim() | (jetstream.claim() if jetstream else {}),
        "signing_keys": [
            *(require_public_key(key, "account") for key in signing_keys),
            *(scoped.claim() for scoped in scoped_keys),
        ],
        "type": "account",
    }
    nats |= _revocations(revocations)
    return _encode(signer, name, require_public_key(account_public, "account"), nats, issued_at)


def with_revocations(account_jwt: str, signer: KeyPair, revocations: Mapping[str, int], *, issued_at: int) -> str:
    """An account's claims as they stand in `account_jwt`, but with these revocations, signed anew.

    For whoever revokes users without knowing how the account was made. `revocations` is the whole list, as
    for `account_jwt`, whose rule for `issued_at` holds here too. Raises InvalidClaimError if the JWT is not
    an account's, or `issued_at` is not later than its own.
    """
    _require_kind(signer, "operator")
    claims = read_claims(account_jwt)
    nats, name, known = claims.get("nats"), claims.get("name"), claims.get("iat")
    if not isinstance(nats, dict) or nats.get("type") != "account" or not isinstance(name, str):
        raise InvalidClaimError("not an account JWT")
    if not isinstance(known, int) or issued_at <= known:
        raise InvalidClaimError(f"issued at {issued_at}, not later than the JWT it replaces ({known})")
    rest = {field: value for field, value in nats.items() if field != "revocations"}
    account = require_public_key(str(claims.get("sub")), "account")
    return _encode(signer, name, account, rest | _revocations(revocations), issued_at, claims.get("exp"))


def user_jwt(
    name: str,
    user_public: str,
    issuer: KeyPair,
    account_public: str,
    permissions: Permissions | None,
    *,
    issued_at: int,
    expires_at: int | None = None,
    limits: ConnectionLimits | None = None,
) -> str:
    """A user's claims, signed by one of its account's signing keys (not by the account's own key).

    `permissions` is None exactly when `issuer` is a scoped key: then the template in the account decides
    permissions and limits, and the server refuses a JWT that brings its own. None from a plain key makes a
    user whose limits are zero: the server closes its connection.
    `expires_at` in unix seconds: after that second the server refuses the JWT and closes its connection.
    """
    _require_kind(issuer, "account")
    if expires_at is not None and expires_at <= issued_at:
        raise InvalidClaimError("the JWT would expire before it is issued")
    nats: dict[str, Any] = {"issuer_account": require_public_key(account_public, "account"), "type": "user"}
    if permissions is not None:
        nats |= permissions.claim() | (limits or ConnectionLimits()).claim()
    elif limits is not None:
        raise InvalidClaimError("the limits of a scoped key's users are in its template")
    return _encode(issuer, name, require_public_key(user_public, "user"), nats, issued_at, expires_at)


def creds_file(jwt: str, seed: str) -> str:
    """The text of a NATS credentials file: a user's JWT and seed. It is a secret (mode 0600).

    Raises InvalidKeyError if the seed is not that of the JWT's user.
    """
    user = KeyPair.from_seed(seed)
    _require_kind(user, "user")
    if read_claims(jwt).get("sub") != user.public:
        raise InvalidKeyError("the seed is not that of the JWT's user")
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n"
        "NKEY Seed printed below can be used to sign and prove identity.\n"
        "NKEYs are sensitive and should be treated as secrets.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n"
        "*************************************************************\n"
    )


def read_claims(jwt: str) -> dict[str, Any]:
    """The claims in a JWT, its signature NOT checked: for reading one's own, not for trusting another's.

    Raises InvalidClaimError.
    """
    parts = jwt.split(".") if jwt.isascii() else []
    try:
        _, payload, _ = parts
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        claims = None
    if not isinstance(claims, dict):
        raise InvalidClaimError("not a JWT")
    return claims


def _revocations(revocations: Mapping[str, int] | None) -> dict[str, Any]:
    for public, revoked_before in (revocations or {}).items():
        if public != EVERY_USER:
            require_public_key(public, "user")
        _require_seconds(revoked_before)
    return {"revocations": dict(revocations)} if revocations else {}


def _require_kind(pair: KeyPair, kind: KeyKind) -> None:
    if pair.kind != kind:
        raise InvalidKeyError(f"expected a key of kind {kind}, got one of kind {pair.kind}")


def _require_seconds(value: int) -> None:
    # A time in milliseconds lies so far ahead that nothing would expire, or everything be revoked.
    if not 0 < value < _LATEST_SECOND:
        raise InvalidClaimError(f"not a time in unix seconds: {value}")


def _encode(
    signer: KeyPair,
    name: str,
    subject: str,
    nats: dict[str, Any],
    issued_at: int,
    expires_at: int | None = None,
) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidClaimError(f"a name is 1 to 128 letters, digits, '-' or '_': {name!r}")
    _require_seconds(issued_at)
    claims: dict[str, Any] = {"iat": issued_at, "iss": signer.public, "name": name, "sub": subject}
    if expires_at is not None:
        _require_seconds(expires_at)
        claims["exp"] = expires_at
    claims["nats"] = nats | {"version": _VERSION}
    # The Go library computes the id without "nats". Then two revocations within a second share it, and a
    # server that learns accounts from another one takes the second for known.
    digest = hashlib.new("sha512_256", _json(claims)).digest()
    claims["jti"] = base64.b32encode(digest).rstrip(b"=").decode("ascii")
    signed = _base64(_json(_HEADER)) + b"." + _base64(_json(claims))
    return (signed + b"." + _base64(signer.sign(signed))).decode("ascii")


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode("ascii")


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
