"""Sealed boxes and keyed digests by libsodium: encrypted for one reader, recognisable by one writer.

A box (``crypto_box_seal``: X25519, XSalsa20-Poly1305, a fresh sender's key each time) opens with the reader's private
key only; who can seal cannot open. Its length tells that of its content in steps of 64 bytes.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nacl.bindings import (
    crypto_box_PUBLICKEYBYTES,
    crypto_box_seal,
    crypto_box_seal_open,
    crypto_box_SECRETKEYBYTES,
    crypto_scalarmult_base,
    sodium_pad,
    sodium_unpad,
)
from nacl.exceptions import CryptoError

from countersign_contracts.errors import CountersignError

_STEP_BYTES = 64
KEY_BYTES = 32


class NotOpened(Exception):
    """The box was altered, or is not for this key."""


class SealKey:
    """The public half: seals, and cannot open."""

    def __init__(self, public: bytes) -> None:
        self._public = _checked(public, crypto_box_PUBLICKEYBYTES)

    def seal(self, content: bytes) -> str:
        """A box, in base64url without padding."""
        return _text(crypto_box_seal(sodium_pad(content, _STEP_BYTES), self._public))


class OpenKey:
    """The private half."""

    def __init__(self, private: bytes) -> None:
        self._private = _checked(private, crypto_box_SECRETKEYBYTES)
        self.public: bytes = crypto_scalarmult_base(self._private)

    def open(self, box: str) -> bytes:
        """What was sealed; raises :class:`NotOpened`."""
        try:
            content: bytes = sodium_unpad(crypto_box_seal_open(_bytes(box), self.public, self._private), _STEP_BYTES)
        except (CryptoError, ValueError, TypeError):
            raise NotOpened("the box was altered, or sealed for another key") from None
        return content

    def __repr__(self) -> str:
        return "OpenKey(…)"


class OpenKeys:
    """Several private halves: the newest first, then those that older boxes were sealed for."""

    def __init__(self, keys: Sequence[OpenKey]) -> None:
        self._keys = tuple(keys)

    def open(self, box: str) -> bytes:
        """What was sealed for any of them; raises :class:`NotOpened`."""
        for key in self._keys[:-1]:
            with suppress(NotOpened):
                return key.open(box)
        return self._keys[-1].open(box)


class DigestKey:
    """Digests that nobody without the key can make, nor guess a content by. ``purpose`` keeps uses apart."""

    def __init__(self, key: bytes) -> None:
        self._key = _checked(key, KEY_BYTES)

    def digest(self, purpose: str, content: bytes) -> bytes:
        """HMAC-SHA256 (RFC 2104): 32 bytes."""
        return hmac.digest(self._key, purpose.encode() + b"\n" + content, "sha256")

    def __repr__(self) -> str:
        return "DigestKey(…)"


def new_key() -> bytes:
    """A fresh key: private half of a pair, or of digests."""
    return secrets.token_bytes(KEY_BYTES)


def key_text(key: bytes) -> str:
    """The content of a key's file: base64url on one line."""
    return _text(key) + "\n"


def read_key(path: Path, what: str) -> bytes:
    """The first key in a file; raises :class:`CountersignError` naming the file, never its content."""
    return read_keys(path, what)[0]


def read_keys(path: Path, what: str) -> tuple[bytes, ...]:
    """Every key in a file, one a line, the newest first; raises like :func:`read_key`."""
    try:
        keys = tuple(_checked(_bytes(line.strip()), KEY_BYTES) for line in path.read_text().splitlines() if line)
    except OSError as error:
        raise CountersignError(f"cannot read the {what} at {path}: {error.strerror}; bootstrap makes it") from None
    except ValueError:
        keys = ()
    if not keys:
        raise CountersignError(f"{path} is no {what}: {KEY_BYTES} bytes in base64url on a line")
    return keys


def _checked(key: bytes, size: int) -> bytes:
    if len(key) != size:
        raise ValueError(f"a key has {size} bytes, not {len(key)}")
    return key


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except NotBase64 as error:
        raise ValueError(str(error)) from None
    if _text(raw) != text:  # the decoder passes over what it does not know
        raise ValueError("not base64url without padding")
    return raw
