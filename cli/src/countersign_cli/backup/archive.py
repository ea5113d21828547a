"""The backup's file: a tar of a few members, the first of which says what the others are, with their SHA-256.

Whoever reads it has every action's arguments: it is made private to its user. Keys are in it only sealed.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from countersign_contracts.errors import CountersignError

FORMAT = 1
CONTENTS = "backup.json"
DUMP, CHECKPOINTS, TRUST, ACCOUNT, KEYS = (
    "database.dump",
    "checkpoints.jsonl",
    "trust.json",
    "agents-account.jwt",
    "keys.sealed",
)
_BLOCK = 1024 * 1024


class BackupError(CountersignError):
    """The backup cannot be made or used; the text says why."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a backup says of itself. ``open_actions`` counts those that had not ended, by state."""

    format: int
    version: str
    made_at: str
    deployment: str
    running: bool
    ledger_seq: int
    ledger_hash: str
    open_actions: Mapping[str, int]
    sha256: Mapping[str, str]

    @property
    def has_keys(self) -> bool:
        """Whether the keys are in it, sealed."""
        return KEYS in self.sha256


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    found = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def write(target: Path, folder: Path, contents: Contents) -> None:
    """Put ``folder``'s members into ``target``: wholly or not at all, on the disk when this returns.

    Raises :class:`BackupError`, for a full disk too.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        (folder / CONTENTS).write_text(json.dumps(asdict(contents), indent=1) + "\n")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for name in (CONTENTS, *sorted(contents.sha256)):
                    tar.add(folder / name, arcname=name, filter=_anonymous)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        raise BackupError(f"cannot write the backup {target}: {error.strerror}; nothing was left there") from None
    finally:
        draft.unlink(missing_ok=True)


def read(source: Path, folder: Path) -> Contents:
    """Take the members out into ``folder`` and compare them with what the backup says. Raises :class:`BackupError`."""
    try:
        with tarfile.open(source, mode="r:") as tar:
            names = tar.getnames()
            if names[:1] != [CONTENTS] or any("/" in name for name in names):
                raise BackupError(f"{source} is no backup of Countersign")
            tar.extractall(folder, filter="data")
    except OSError as error:
        raise BackupError(f"cannot read the backup {source}: {error.strerror or error}") from None
    except (tarfile.TarError, EOFError) as error:
        raise BackupError(f"{source} is no backup of Countersign, or was cut short: {error}") from None
    contents = _contents(source, folder / CONTENTS)
    for name, wanted in contents.sha256.items():
        member = folder / name
        if not member.is_file() or digest(member) != wanted:
            raise BackupError(f"{source} is damaged: {name} in it is not what was written; use another copy")
    return contents


def _contents(source: Path, file: Path) -> Contents:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
        if found["format"] != FORMAT:
            raise BackupError(
                f"{source} is a backup of format {found['format']}, written by Countersign {found['version']};"
                f" this one reads format {FORMAT}"
            )
        return Contents(**found)
    except (OSError, ValueError, KeyError, TypeError):
        raise BackupError(f"{source} is damaged: what it says of itself cannot be read; use another copy") from None


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member
