"""Secrets in a service's own tables: encrypted under a key that the database does not have.

XChaCha20-Poly1305 by libsodium, a fresh nonce each time. What a secret is ``about`` (whose it is) is authenticated with
it: a row copied to somebody else's does not open.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
)
from nacl.exceptions import CryptoError

from .sealing import KEY_BYTES, NotOpened

_NONCE_BYTES = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES


class RestKeys:
    """Keys of secrets at rest: the newest first, which encrypts, then those that older secrets were encrypted under."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        self._keys = tuple(keys)

    def lock(self, content: bytes, about: str) -> bytes:
        """The encrypted content."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        locked: bytes = crypto_aead_xchacha20poly1305_ietf_encrypt(content, about.encode(), nonce, self._keys[0])
        return nonce + locked

    def unlock(self, locked: bytes, about: str) -> bytes:
        """The content; raises :class:`NotOpened` if it was altered, is about something else, or its key is gone."""
        for key in self._keys:
            try:
                content: bytes = crypto_aead_xchacha20poly1305_ietf_decrypt(
                    locked[_NONCE_BYTES:], about.encode(), locked[:_NONCE_BYTES], key
                )
            except (CryptoError, ValueError, TypeError):
                continue
            return content
        raise NotOpened("altered, about something else, or encrypted under a key that is gone")

    def __repr__(self) -> str:
        return "RestKeys(…)"
