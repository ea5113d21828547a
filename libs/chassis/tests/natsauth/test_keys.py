"""Keys: what is a key, of which kind, and that a seed does not slip out."""

import base64
import binascii

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from countersign_chassis.natsauth import InvalidKeyError, KeyPair, public_key_kind, require_public_key

KINDS = ("operator", "account", "user")
ERRORS = ("not a NATS seed", "not a NATS seed: the checksum does not match", "not a NATS public key")


def crc16(data: bytes) -> bytes:
    return binascii.crc_hqx(data, 0).to_bytes(2, "little")


def encoded_seed(kind: str, raw: bytes) -> str:
    """The format written down a second time: five bits "S", eight bits of kind, three zero bits, key, CRC."""
    prefix = {"operator": 14, "account": 0, "user": 20}[kind] << 3
    head = bytes([18 << 3 | prefix >> 5, (prefix & 31) << 3])
    return base64.b32encode(head + raw + crc16(head + raw)).decode().rstrip("=")


def encoded_public(kind: str, raw: bytes) -> str:
    prefix = bytes([{"operator": 14, "account": 0, "user": 20}[kind] << 3])
    return base64.b32encode(prefix + raw + crc16(prefix + raw)).decode()


@given(st.sampled_from(KINDS), st.binary(min_size=32, max_size=32), st.binary(max_size=64))
def test_a_seed_gives_the_ed25519_key_of_its_kind(kind: str, raw: bytes, message: bytes) -> None:
    pair = KeyPair.from_seed(encoded_seed(kind, raw))
    private = Ed25519PrivateKey.from_private_bytes(raw)
    assert pair.kind == kind
    assert pair.public == encoded_public(kind, private.public_key().public_bytes_raw())
    assert pair.seed == encoded_seed(kind, raw)
    assert pair.sign(message) == private.sign(message)


@pytest.mark.parametrize(("kind", "letter"), [("operator", "O"), ("account", "A"), ("user", "U")])
def test_a_new_key_is_of_the_kind_asked_for_and_like_no_other(kind: str, letter: str) -> None:
    first, second = KeyPair.generate(kind), KeyPair.generate(kind)
    assert first.public.startswith(letter)
    assert first.seed.startswith("S" + letter)
    assert public_key_kind(first.public) == kind
    assert first.seed != second.seed
    assert KeyPair.from_seed(first.seed).public == first.public


def test_the_seed_is_in_no_representation() -> None:
    pair = KeyPair.generate("user")
    assert pair.seed not in f"{pair!r} {pair} {[pair]}"
    assert pair.public in repr(pair)


@given(st.sampled_from(KINDS), st.integers(0, 57), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_a_seed_with_one_wrong_character_is_refused(kind: str, place: int, character: str) -> None:
    seed = encoded_seed(kind, bytes(range(32)))
    wrong = seed[:place] + character + seed[place + 1 :]
    if wrong != seed:
        with pytest.raises(InvalidKeyError):
            KeyPair.from_seed(wrong)


@given(st.sampled_from(KINDS), st.integers(0, 55), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_a_public_key_with_one_wrong_character_is_refused(kind: str, place: int, character: str) -> None:
    public = encoded_public(kind, bytes(range(32)))
    wrong = public[:place] + character + public[place + 1 :]
    if wrong != public:
        with pytest.raises(InvalidKeyError):
            public_key_kind(wrong)


@given(st.text(max_size=80))
def test_any_other_text_is_no_key_and_is_not_repeated_in_the_error(text: str) -> None:
    for read in (KeyPair.from_seed, public_key_kind):
        with pytest.raises(InvalidKeyError) as caught:
            read(text)
        assert str(caught.value) in ERRORS


def test_a_key_of_another_kind_is_refused() -> None:
    server = bytes([13 << 3]) + bytes(32)
    with pytest.raises(InvalidKeyError, match="not the public key of an operator, account or user"):
        public_key_kind(base64.b32encode(server + crc16(server)).decode())
    with pytest.raises(InvalidKeyError, match="expected a public key of kind account, got one of kind user"):
        require_public_key(KeyPair.generate("user").public, "account")


def test_a_signature_is_checked_by_the_public_key_alone() -> None:
    pair = KeyPair.generate("user")
    Ed25519PublicKey.from_public_bytes(base64.b32decode(pair.public)[1:-2]).verify(pair.sign(b"nonce"), b"nonce")
