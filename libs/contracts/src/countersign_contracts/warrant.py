"""The warrant: a JWT (RFC 7519, EdDSA) that permits the executor one execution of one action digest, for a while.

Only policy issues it. The executor uses it up: ``jti`` is the request id, and an execution is claimed once.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import orjson
from pydantic import Field, ValidationError

from countersign_ledger import SigningKey, TrustBundle, UntrustedError

from .actions import Action
from .errors import Refused
from .ids import Digest
from .jws_parts import decode, encode
from .model import Frozen, explain
from .retirement import require_in_force

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
    header = {"alg": _ALGORITHM, "kid": key.kid, "typ": TYPE}
    signed = b".".join((encode(orjson.dumps(header)), encode(orjson.dumps(claims))))
    return b".".join((signed, encode(key.sign(signed)))).decode("ascii")


def verify(
    token: str, action: Action, *, at: datetime, trust: TrustBundle, leeway: timedelta = timedelta(seconds=0)
) -> Warrant:
    """The claims of ``token`` if it permits executing ``action`` at time ``at``; raises :class:`InvalidWarrant`.

    Checked: signer entitled to issue warrants and not retired, signature, algorithm, type, issuer, audience, expiry,
    request id, agent, principal chain, and that the digest is both the warrant's and the one computed from what would
    be executed.
    """
    warrant = _read(token, trust, at)
    if at.timestamp() >= warrant.exp + leeway.total_seconds():
        raise InvalidWarrant(f"the warrant expired {int(at.timestamp() - warrant.exp)} s ago")
    if warrant.jti != action.request_id or warrant.sub != action.agent_id:
        raise InvalidWarrant("the warrant is for another action")
    if tuple(warrant.act) != tuple(action.principal_chain):
        raise InvalidWarrant("the warrant is for another principal chain")
    if not (warrant.digest == action.digest == action.computed_digest()):
        raise InvalidWarrant("the warrant's digest is not the digest of what would be executed")
    return warrant


def _read(token: str, trust: TrustBundle, at: datetime) -> Warrant:
    """Verify a compact JWS (RFC 7515) and read its claims.

    By hand, as it is written: a JWT library takes twice as long, and wants to choose the key and the algorithm itself.
    Here the trust bundle alone says who may sign, and what the header says is compared, never followed.
    """
    try:
        signed, signature = token.rsplit(".", 1)
        head, payload = signed.split(".")
        header = orjson.loads(decode(head))
        if header.get("alg") != _ALGORITHM or header.get("typ") != TYPE or set(header) != {"alg", "typ", "kid"}:
            raise InvalidWarrant(f"the token is {header.get('typ')!r} by {header.get('alg')!r}, not a warrant by EdDSA")
        require_in_force(trust.verify(str(header["kid"]), TYPE, signed.encode("ascii"), decode(signature)), at)
        warrant = Warrant.model_validate_json(decode(payload))
    except UntrustedError as error:
        raise InvalidWarrant(f"the warrant's signer is not trusted: {error}") from None
    except (ValueError, AttributeError) as error:
        reason = explain(error) if isinstance(error, ValidationError) else error
        raise InvalidWarrant(f"the warrant could not be verified: {reason}") from None
    if warrant.iss != ISSUER or warrant.aud != AUDIENCE:
        raise InvalidWarrant(f"the warrant is by {warrant.iss!r} for {warrant.aud!r}, not by {ISSUER} for {AUDIENCE}")
    return warrant
