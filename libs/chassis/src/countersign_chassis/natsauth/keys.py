"""NATS key pairs (nkeys): the Ed25519 keys that name operators, accounts and users.

It makes, reads and uses keys, and stores none: where a seed rests, and who can read it, is the caller's
business. The text form is that of https://github.com/nats-io/nkeys: a prefix, the key, and a CRC-16, in
base32.
"""

import base64
import binascii
import os
from typing import Final, Literal, Self, get_args

import nkeys  # type: ignore[import-untyped]

KeyKind = Literal["operator", "account", "user"]

_PREFIX: Final[dict[KeyKind, int]] = {
    "operator": nkeys.PREFIX_BYTE_OPERATOR,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "user": nkeys.PREFIX_BYTE_USER,
}
_KIND: Final[dict[int, KeyKind]] = {_PREFIX[kind]: kind for kind in get_args(KeyKind)}
_PUBLIC_LENGTH: Final = 56
_RAW_PUBLIC_LENGTH: Final = 35  # prefix byte, 32 bytes of key, two bytes of CRC-16


class NatsAuthError(Exception):
    """Base of every error of this package."""


class InvalidKeyError(NatsAuthError):
    """A seed or public key is malformed, fails its checksum, or is of another kind than asked for."""


def public_key_kind(public: str) -> KeyKind:
    """The kind of a public key, after its length, alphabet and checksum were checked.

    Raises InvalidKeyError, whose message does not repeat the text: it might be a seed given by mistake.
    """
    try:
        raw = base64.b32decode(public) if len(public) == _PUBLIC_LENGTH else b""
    except (binascii.Error, ValueError):
        raw = b""
    # crc_hqx is the same CRC-16 as nkeys', in C: an account can list thousands of keys.
    if len(raw) != _RAW_PUBLIC_LENGTH or binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
        raise InvalidKeyError("not a NATS public key")
    kind = _KIND.get(raw[0])
    if kind is None:
        raise InvalidKeyError("not the public key of an operator, account or user")
    return kind


def require_public_key(public: str, kind: KeyKind) -> str:
    """`public` unchanged if it is a valid public key of that kind; InvalidKeyError otherwise."""
    found = public_key_kind(public)
    if found != kind:
        raise InvalidKeyError(f"expected a public key of kind {kind}, got one of kind {found}")
    return public


def public_key_bytes(public: str) -> bytes:
    """The 32 bytes of a valid public key, for checking a signature. Raises InvalidKeyError."""
    public_key_kind(public)
    return base64.b32decode(public)[1:33]


class KeyPair:
    """One Ed25519 key with its role. The seed is the secret: only `seed` shows it, repr does not."""

    __slots__ = ("_pair", "kind", "public")

    kind: KeyKind
    public: str

    def __init__(self, seed: str) -> None:
        try:
            encoded = seed.encode("ascii")
            prefix, raw = nkeys.decode_seed(encoded)
            # nkeys ignores the checksum: a mistyped seed would silently be another key.
            intact = nkeys.encode_seed(raw, prefix) == encoded
        except (UnicodeEncodeError, ValueError, nkeys.NkeysError):
            raise InvalidKeyError("not a NATS seed") from None
        if not intact:
            raise InvalidKeyError("not a NATS seed: the checksum does not match")
        if prefix not in _KIND:
            raise InvalidKeyError("not the seed of an operator, account or user")
        self._pair = nkeys.from_seed(encoded)
        self.kind = _KIND[prefix]
        self.public = self._pair.public_key.decode("ascii")

    @classmethod
    def generate(cls, kind: KeyKind) -> Self:
        """A new key from the operating system's randomness."""
        return cls(nkeys.encode_seed(os.urandom(32), _PREFIX[kind]).decode("ascii"))

    @classmethod
    def from_seed(cls, seed: str) -> Self:
        """The key of a stored seed ("SO…", "SA…", "SU…"). Raises InvalidKeyError."""
        return cls(seed)

    @property
    def seed(self) -> str:
        """The secret, in the form NATS tools read."""
        return bytes(self._pair.seed).decode("ascii")

    def sign(self, data: bytes) -> bytes:
        """The 64-byte Ed25519 signature over `data` (RFC 8032)."""
        return bytes(self._pair.sign(data))

    def __repr__(self) -> str:
        return f"KeyPair(kind={self.kind!r}, public={self.public!r})"
