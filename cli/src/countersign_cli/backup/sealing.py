"""Keys in a backup, sealed with a passphrase: scrypt (RFC 7914) makes a key of it, ChaCha20-Poly1305 (RFC 8439) seals.

What counts as keys is what makes its reader Countersign: signing keys, NATS seeds, database passwords, the
administrator's token, connectors' secrets.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from .archive import BackupError

#: In the data folder.
MEMBERS = ("keys", "secrets", "admin.token")
_MAGIC = b"countersign-keys-1\n"
_SALT, _NONCE = 16, 12
_SHORTEST = 12


def read_passphrase(file: Path) -> bytes:
    """The first line of a file. Raises :class:`BackupError` if it cannot be read, or is too short to seal anything."""
    try:
        phrase = file.read_bytes().split(b"\n", 1)[0].strip()
    except OSError as error:
        raise BackupError(f"cannot read the passphrase file {file}: {error.strerror}") from None
    if len(phrase) < _SHORTEST:
        raise BackupError(f"the passphrase in {file} has {len(phrase)} characters; at least {_SHORTEST} are needed")
    return phrase


def seal_keys(root: Path, phrase: bytes) -> bytes:
    """The data folder's keys, which only the passphrase opens."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in MEMBERS:
            if (root / name).exists():
                tar.add(root / name, arcname=name)
    salt, nonce = os.urandom(_SALT), os.urandom(_NONCE)
    sealed = ChaCha20Poly1305(_key(phrase, salt)).encrypt(nonce, packed.getvalue(), _MAGIC)
    return _MAGIC + salt + nonce + sealed


def open_keys(sealed: bytes, phrase: bytes, root: Path) -> None:
    """Put them into the data folder. Raises :class:`BackupError` for another passphrase than it was sealed with."""
    start = len(_MAGIC)
    salt, nonce = sealed[start : start + _SALT], sealed[start + _SALT : start + _SALT + _NONCE]
    try:
        packed = ChaCha20Poly1305(_key(phrase, salt)).decrypt(nonce, sealed[start + _SALT + _NONCE :], _MAGIC)
    except (InvalidTag, ValueError):
        raise BackupError("the passphrase does not open the keys in this backup") from None
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        tar.extractall(root, filter="data")


def _key(phrase: bytes, salt: bytes) -> bytes:
    return hashlib.scrypt(phrase, salt=salt, n=2**15, r=8, p=1, maxmem=64 * 1024 * 1024, dklen=32)
