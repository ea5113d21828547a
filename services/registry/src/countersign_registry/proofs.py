"""That an agent holds the key it names: signatures, and the nonces that it signs to renew. Pure but for randomness."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from countersign_chassis.natsauth import NatsAuthError, public_key_bytes
from countersign_chassis.sodium import verifier
from countersign_contracts.enrolment import Challenge
from countersign_contracts.errors import CountersignError

NONCE_LIFETIME = timedelta(seconds=60)


def check_signature(nkey: str, signature: str, text: bytes) -> None:
    """Raises `invalid` for what is no key, and `unauthenticated` if ``signature`` is not the key's over ``text``."""
    try:
        key = public_key_bytes(nkey)
    except NatsAuthError as error:
        raise CountersignError(f"nkey: {error}; a NATS user's public key begins with U", code="invalid") from None
    try:
        verifier(key)(urlsafe_b64decode(signature + "=="), text)
    except ValueError:
        raise CountersignError(
            "the signature is not that of the NATS key over what is said here; sign with the seed of this key",
            code="unauthenticated",
        ) from None


class Nonces:
    """Nonces that any registry of the deployment recognises, without having kept them: they are marked with a key."""

    def __init__(self, seeds: Callable[[], Sequence[str]]) -> None:
        """``seeds``: those that count now, the first of which marks; several while one takes the other's place."""
        self._seeds = seeds

    def new(self, agent_id: str, at: datetime) -> Challenge:
        """What that agent's key is to sign."""
        ends = int((at + NONCE_LIFETIME).timestamp())
        body = f"{ends}.{secrets.token_urlsafe(12)}"
        nonce = f"{body}.{self._mark(self._seeds()[0], agent_id, body)}"
        return Challenge(nonce=nonce, expires_at=datetime.fromtimestamp(ends, UTC))

    def check(self, agent_id: str, nonce: str, at: datetime) -> datetime:
        """When the nonce ends. Raises `unauthenticated` for one that is not this agent's, or has ended."""
        body, _, mark = nonce.rpartition(".")
        marks = [self._mark(seed, agent_id, body) for seed in self._seeds()]
        if not any(hmac.compare_digest(mark.encode(), each.encode()) for each in marks):
            raise CountersignError("the nonce was not made for this agent; ask for another", code="unauthenticated")
        ends = datetime.fromtimestamp(int(body.partition(".")[0]), UTC)
        if ends <= at:
            raise CountersignError(
                f"the nonce ended {(at - ends).total_seconds():.0f} s ago; ask for another", code="unauthenticated"
            )
        return ends

    @staticmethod
    def _mark(seed: str, agent_id: str, body: str) -> str:
        key = hashlib.sha256(b"countersign-nonce-v1\n" + seed.encode()).digest()
        mark = hmac.digest(key, f"{agent_id}\n{body}".encode(), "sha256")
        return urlsafe_b64encode(mark).rstrip(b"=").decode()
