"""libsodium and OpenSSL agree: whoever verifies an export offline uses the other one."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from countersign_chassis.sodium import signer, verifier
from countersign_ledger import SigningKey, TrustBundle
from countersign_ledger.errors import BadSignature

_SEEDS = st.binary(min_size=32, max_size=32)


@given(_SEEDS, st.binary(max_size=300))
def test_each_accepts_what_the_other_signed(seed: bytes, message: bytes) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public = private.public_key().public_bytes_raw()
    assert signer(seed)(message) == private.sign(message)
    verifier(public)(private.sign(message), message)


@given(_SEEDS, st.binary(max_size=80), st.integers(0, 511))
def test_each_refuses_what_the_other_refuses(seed: bytes, message: bytes, bit: int) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public = private.public_key().public_bytes_raw()
    signature = bytearray(private.sign(message))
    signature[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(public).verify(bytes(signature), message)
    with pytest.raises(ValueError):
        verifier(public)(bytes(signature), message)


@pytest.mark.parametrize("signature", [b"", b"x", bytes(63), bytes(65), bytes(64)], ids=len)
def test_what_is_no_signature_is_refused_as_one(signature: bytes) -> None:
    key = SigningKey.generate("policy")
    bundle = TrustBundle.of("test", [key.trusted({"t"})], verifier)
    with pytest.raises(BadSignature):
        bundle.verify(key.kid, "t", b"message", signature)
