"""Ed25519 by libsodium: under half the time of OpenSSL's, and every event is signed once and verified several times."""

from __future__ import annotations

from collections.abc import Callable

from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError


def verifier(public_key: bytes) -> Callable[[bytes, bytes], None]:
    """Checks (signature, message) under ``public_key`` (raw, 32 bytes); raises :class:`ValueError` if it does not fit.

    For :class:`~countersign_ledger.TrustBundle`, which has refused keys of small order.
    """

    def verify(signature: bytes, message: bytes) -> None:
        if len(signature) != crypto_sign_BYTES:
            raise ValueError(f"a signature has {crypto_sign_BYTES} bytes, not {len(signature)}")
        try:
            crypto_sign_open(signature + message, public_key)
        except BadSignatureError as error:
            raise ValueError(str(error)) from None

    return verify


def signer(seed: bytes) -> Callable[[bytes], bytes]:
    """Signs with the key of ``seed`` (32 bytes): 64 bytes. For :class:`~countersign_ledger.SigningKey`."""
    _, secret = crypto_sign_seed_keypair(seed)

    def sign(message: bytes) -> bytes:
        signed: bytes = crypto_sign(message, secret)
        return signed[:crypto_sign_BYTES]

    return sign
