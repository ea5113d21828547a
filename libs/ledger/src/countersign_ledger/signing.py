"""What an event's signature covers, and the key that makes it.

The signing bytes are lines of text, so that a second implementation is a few lines in any language. Not
here: who may sign what (`trust`), and what a warrant is (a JWT, made by contracts with
`SigningKey.private`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .errors import InvalidAttribute, InvalidSigningKey
from .fields import FieldError, Fields, parse_object, to_base64url
from .text import forbidden_character
from .trust import TrustedKey

_EVENT_TAG: Final = "countersign-event-v1"
_EVENT_NAMES: Final = ("id", "type", "source", "subject", "time", "keyid")
_KEY_FIELDS: Final = frozenset({"kid", "service", "seed"})


def event_signing_bytes(*, id: str, type: str, source: str, subject: str, time: str, keyid: str, body: bytes) -> bytes:
    """What an event's signature is over: a tag line, the six attributes, the SHA-256 of the body in hex.

    The attributes are the CloudEvents ones (`ce-id`, ...) and `ce-keyid`. No line break at the end.
    Raises InvalidAttribute for a control character, which could move a boundary between attributes.
    """
    values = (id, type, source, subject, time, keyid)
    require_signable(_EVENT_NAMES, values)
    return "\n".join((_EVENT_TAG, *values, hashlib.sha256(body).hexdigest())).encode()


def require_signable(names: Iterable[str], values: tuple[str, ...]) -> None:
    """Raise InvalidAttribute, by name, if one of these texts may not stand on a signed line of its own."""
    if "".join(values).isprintable():  # the usual case, decided in C
        return
    for name, value in zip(names, values, strict=True):
        if (forbidden := forbidden_character(value)) is not None:
            raise InvalidAttribute(f"{name} contains the forbidden character {forbidden}")


Prepare = Callable[[bytes], Callable[[bytes], bytes]]
"""Makes a raw seed (32 bytes) ready to sign with, by another implementation of RFC 8032."""


class SigningKey:
    """A service's Ed25519 key (RFC 8032). Only `private` and `to_json` give its secret away.

    `prepare` is for whoever signs thousands of times a second; the default is `cryptography`.
    """

    __slots__ = ("_private", "_sign", "kid", "public_bytes", "service")

    def __init__(self, kid: str, service: str, private: Ed25519PrivateKey, prepare: Prepare | None = None) -> None:
        self.kid = kid
        self.service = service
        self.public_bytes: bytes = private.public_key().public_bytes_raw()
        self._private = private
        self._sign = private.sign if prepare is None else prepare(private.private_bytes_raw())

    @classmethod
    def generate(cls, service: str) -> SigningKey:
        """Make a new key. Its id is the service and the first 12 hex digits of the public key's SHA-256."""
        private = Ed25519PrivateKey.generate()
        fingerprint = hashlib.sha256(private.public_key().public_bytes_raw()).hexdigest()
        return cls(f"{service}-{fingerprint[:12]}", service, private)

    @classmethod
    def from_json(cls, text: str | bytes, prepare: Prepare | None = None) -> SigningKey:
        """Read the form `to_json` writes. Raises InvalidSigningKey: names the field, never shows the seed."""
        try:
            fields = Fields(parse_object(text), _KEY_FIELDS)
            kid, service = fields.text("kid"), fields.text("service")
            for name, value in (("kid", kid), ("service", service)):
                if not value:
                    raise fields.wrong(name, "is empty")
            seed = fields.base64url("seed", 32)
        except FieldError as error:
            raise InvalidSigningKey(f"signing key: {error}") from None
        return cls(kid, service, Ed25519PrivateKey.from_private_bytes(seed), prepare)

    def to_json(self) -> str:
        """The key as JSON, secret seed included: store it where only its service can read."""
        seed = to_base64url(self._private.private_bytes_raw())
        return json.dumps({"kid": self.kid, "service": self.service, "seed": seed}, indent=2) + "\n"

    @property
    def private(self) -> Ed25519PrivateKey:
        """The private key, for what signs in a form of its own (JWT)."""
        return self._private

    def sign(self, message: bytes) -> bytes:
        """The raw signature, 64 bytes."""
        return self._sign(message)

    def trusted(
        self, emits: Iterable[str], *, not_before: str | None = None, not_after: str | None = None
    ) -> TrustedKey:
        """The public half, with what it may sign, as the trust bundle lists it."""
        return TrustedKey(self.kid, self.service, self.public_bytes, frozenset(emits), not_before, not_after)

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r}, service={self.service!r})"
