"""The warrant: a JWT (RFC 7519, EdDSA) that permits the executor one execution of one action digest, for a while.

Only policy issues it. The executor uses it up: ``jti`` is the request id, and an execution is claimed once.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field

from countersign_ledger import NotEntitled, SigningKey, TrustBundle, UnknownKey, UntrustedError

from .actions import Action
from .errors import Refused
from .ids import Digest
from .model import Frozen

TYPE = "countersign.warrant.v1"
ISSUER = "countersign/policy"
AUDIENCE = "countersign/executor"
_ALGORITHM = "EdDSA"


class InvalidWarrant(Refused):
    """The warrant does not permit this execution."""


class Warrant(Frozen):
    """The claims. ``iat`` and ``exp`` are seconds since 1970 (RFC 7519 NumericDate)."""

    iss: str
    sub: str = Field(description="the agent")
    aud: str
    jti: str = Field(description="the request id")
    iat: int
    exp: int
    digest: Digest
    policy_version: str
    approval_id: str | None = None
    act: tuple[str, ...] = Field(default=(), description="principal chain, outermost first")


def issue(
    action: Action,
    *,
    policy_version: str,
    approval_id: str | None,
    at: datetime,
    lifetime: timedelta,
    key: SigningKey,
) -> str:
    """A signed warrant for exactly ``action``."""
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "sub": action.agent_id,
        "aud": AUDIENCE,
        "jti": action.request_id,
        "iat": int(at.timestamp()),
        "exp": int((at + lifetime).timestamp()),
        "digest": action.digest,
        "policy_version": policy_version,
        "act": list(action.principal_chain),
    }
    if approval_id:
        claims["approval_id"] = approval_id
    return jwt.encode(claims, key.private, algorithm=_ALGORITHM, headers={"kid": key.kid, "typ": TYPE})


def verify(
    token: str, action: Action, *, at: datetime, trust: TrustBundle, leeway: timedelta = timedelta(seconds=0)
) -> Warrant:
    """The claims of ``token`` if it permits executing ``action`` at time ``at``; raises :class:`InvalidWarrant`.

    Checked: signer entitled to issue warrants, signature, algorithm, type, issuer, audience, expiry, request id, agent,
    principal chain, and that the digest is both the warrant's and the one computed from what would be executed.
    """
    try:
        header = jwt.get_unverified_header(token)
        key = trust_key(trust, str(header.get("kid", "")))
        if header.get("typ") != TYPE:
            raise InvalidWarrant(f"the token is a {header.get('typ')!r}, not a warrant")
        claims = jwt.decode(
            token,
            key,
            algorithms=[_ALGORITHM],
            audience=AUDIENCE,
            issuer=ISSUER,
            options={
                "verify_exp": False,
                "verify_iat": False,
                "require": ["exp", "iat", "jti", "sub", "aud", "iss"],
            },
        )
        warrant = Warrant.model_validate(claims)
    except UntrustedError as error:
        raise InvalidWarrant(f"the warrant's signer is not trusted: {error}") from None
    except (jwt.PyJWTError, ValueError) as error:
        raise InvalidWarrant(f"the warrant could not be verified: {error}") from None
    if at.timestamp() >= warrant.exp + leeway.total_seconds():
        raise InvalidWarrant(f"the warrant expired {int(at.timestamp() - warrant.exp)} s ago")
    if warrant.jti != action.request_id or warrant.sub != action.agent_id:
        raise InvalidWarrant("the warrant is for another action")
    if tuple(warrant.act) != tuple(action.principal_chain):
        raise InvalidWarrant("the warrant is for another principal chain")
    if not (warrant.digest == action.digest == action.computed_digest()):
        raise InvalidWarrant("the warrant's digest is not the digest of what would be executed")
    return warrant


def trust_key(trust: TrustBundle, kid: str) -> Ed25519PublicKey:
    """The public key that may sign warrants under ``kid``; raises :class:`UntrustedError`."""
    key = trust.keys.get(kid)
    if key is None:
        raise UnknownKey(f"no key {kid!r}; known: {', '.join(trust.keys)}")
    if TYPE not in key.emits:
        raise NotEntitled(f"key {kid!r} of {key.service} may not sign {TYPE}")
    return _public_key(key.public_key)


@lru_cache(maxsize=64)
def _public_key(raw: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(raw)
