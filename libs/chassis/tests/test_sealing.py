"""Boxes open for their reader alone; digests are HMAC-SHA256; keys are read without being told."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import PrivateKey, SealedBox

from countersign_chassis.sealing import (
    DigestKey,
    NotOpened,
    OpenKey,
    OpenKeys,
    SealKey,
    key_text,
    new_key,
    read_key,
    read_keys,
)
from countersign_contracts.errors import CountersignError

KEYS = st.binary(min_size=32, max_size=32)


@given(KEYS, st.binary(max_size=300))
def test_what_is_sealed_opens_with_the_private_half(private: bytes, content: bytes) -> None:
    key = OpenKey(private)
    assert key.public == bytes(PrivateKey(private).public_key)
    assert key.open(SealKey(key.public).seal(content)) == content


def test_a_box_from_the_high_level_interface_opens_too() -> None:
    """Golden: X25519, XSalsa20-Poly1305, ISO/IEC 7816-4 padding to 64 bytes, base64url without `=`."""
    from base64 import urlsafe_b64encode

    private = PrivateKey(bytes(range(32)))
    padded = b"hello" + b"\x80" + bytes(58)
    box = urlsafe_b64encode(SealedBox(private.public_key).encrypt(padded)).decode().rstrip("=")
    assert OpenKey(bytes(private)).open(box) == b"hello"


@given(st.binary(max_size=200), st.integers(0), st.integers(1, 255))
def test_an_altered_box_does_not_open(content: bytes, at: int, change: int) -> None:
    from base64 import urlsafe_b64decode, urlsafe_b64encode

    key = OpenKey(bytes(range(32)))
    box = SealKey(key.public).seal(content)
    raw = bytearray(urlsafe_b64decode(box + "=" * (-len(box) % 4)))
    raw[at % len(raw)] ^= change
    with pytest.raises(NotOpened):
        key.open(urlsafe_b64encode(raw).decode().rstrip("="))


@pytest.mark.parametrize("box", ["", "x", "=", "ä", "a" * 63, "a" * 64 + "\n", "a" * 400])
def test_what_is_no_box_does_not_open(box: str) -> None:
    with pytest.raises(NotOpened):
        OpenKey(bytes(range(32))).open(box)


def test_a_box_tells_the_length_in_steps_and_is_never_the_same() -> None:
    seal = SealKey(OpenKey(new_key()).public).seal
    assert len({len(seal(b"x" * size)) for size in range(64)}) == 1
    assert len(seal(b"x" * 64)) > len(seal(b"x" * 63))
    assert seal(b"x") != seal(b"x")


def test_several_keys_open_what_each_was_sealed_for_and_nothing_else() -> None:
    new, old, gone = OpenKey(new_key()), OpenKey(new_key()), OpenKey(new_key())
    keys = OpenKeys([new, old])
    assert [keys.open(SealKey(key.public).seal(b"x")) for key in (new, old)] == [b"x", b"x"]
    with pytest.raises(NotOpened):
        keys.open(SealKey(gone.public).seal(b"x"))


@given(KEYS, st.binary(max_size=100))
def test_a_digest_is_hmac_and_its_purpose_keeps_uses_apart(key: bytes, content: bytes) -> None:
    made = DigestKey(key).digest("mark", content)
    assert made == hmac.new(key, b"mark\n" + content, hashlib.sha256).digest()
    assert made != DigestKey(key).digest("request", content)


def test_keys_come_back_from_their_file(tmp_path: Path) -> None:
    keys = [new_key(), new_key()]
    path = tmp_path / "key"
    path.write_text("".join(map(key_text, keys)) + "\n")
    assert read_keys(path, "key") == tuple(keys) and read_key(path, "key") == keys[0]


@pytest.mark.parametrize("text", ["", "\n", "hunter2", "a" * 44, key_text(bytes(31)), key_text(bytes(32)) + "hunter2"])
def test_a_file_that_holds_no_keys_is_told_without_its_content(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    with pytest.raises(CountersignError, match="32 bytes in base64url on a line") as refused:
        read_keys(path, "key of tests")
    assert str(path) in refused.value.detail and "hunter2" not in refused.value.detail
    with pytest.raises(CountersignError, match="bootstrap makes it"):
        read_keys(tmp_path / "missing", "key of tests")


def test_no_key_is_shown() -> None:
    assert (repr(OpenKey(bytes(32))), repr(DigestKey(bytes(32)))) == ("OpenKey(…)", "DigestKey(…)")
