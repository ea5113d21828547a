"""Secrets at rest open under their key, for what they are about, and not otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_chassis.at_rest import RestKeys
from countersign_chassis.sealing import NotOpened, new_key

OLD, NEW = new_key(), new_key()


@given(content=st.binary(max_size=100), about=st.text(max_size=20))
def test_what_was_locked_opens(content: bytes, about: str) -> None:
    locked = RestKeys([OLD]).lock(content, about)
    assert RestKeys([NEW, OLD]).unlock(locked, about) == content
    assert locked != RestKeys([OLD]).lock(content, about)


@given(place=st.integers(0, 60), bit=st.integers(0, 7))
def test_a_flipped_bit_opens_nothing(place: int, bit: int) -> None:
    locked = bytearray(RestKeys([OLD]).lock(b"twenty-one bytes here", "a"))
    locked[place] ^= 1 << bit
    with pytest.raises(NotOpened):
        RestKeys([OLD]).unlock(bytes(locked), "a")


@pytest.mark.parametrize("locked", [b"", b"x", b"x" * 24, b"x" * 39])
def test_what_is_no_secret_opens_nothing(locked: bytes) -> None:
    with pytest.raises(NotOpened):
        RestKeys([OLD]).unlock(locked, "a")


def test_another_key_or_another_s_row_opens_nothing() -> None:
    locked = RestKeys([OLD]).lock(b"secret", "totp:ann")
    for keys, about in ((RestKeys([NEW]), "totp:ann"), (RestKeys([OLD]), "totp:ben")):
        with pytest.raises(NotOpened):
            keys.unlock(locked, about)
    assert OLD.hex() not in repr(RestKeys([OLD])) and "…" in repr(RestKeys([OLD]))
    for bad in ([], [b"short"]):
        with pytest.raises(ValueError, match="32 bytes"):
            RestKeys(bad)
