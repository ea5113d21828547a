"""Checkpoints outside the database: a file of JSON lines, appended to and synced. Blocking; call it in a thread.

The file may be moved away at any time (rotation, archiving to where nobody can write): each append opens it anew.
"""

from __future__ import annotations

import os
from pathlib import Path

import orjson

from countersign_contracts.errors import CountersignError
from countersign_ledger.checkpoint import Checkpoint
from countersign_ledger.errors import InvalidCheckpoint

#: How much of the file's end is read for the last checkpoint: some two hundred lines.
_TAIL_BYTES = 64 * 1024


class CheckpointFile:
    """One line a checkpoint, oldest first. A line cut short by a crash is passed over."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make sure that it can be appended to. Raises :class:`CountersignError` naming the file and the reason."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(self._open())
        except OSError as error:
            raise CountersignError(f"cannot write the checkpoint file {self.path}: {error.strerror}") from None

    def append(self, checkpoint: Checkpoint) -> None:
        """Add a checkpoint; it is on the disk when this returns. Raises :class:`CountersignError`."""
        line = orjson.dumps(checkpoint.to_dict()) + b"\n"
        try:
            fresh = not self.path.exists()
            descriptor = self._open()
            try:
                if not self._ends_with_a_line(descriptor):
                    line = b"\n" + line
                written = os.write(descriptor, line)
                if written != len(line):
                    raise CountersignError(f"the disk of the checkpoint file {self.path} is full")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if fresh:
                self._sync_folder()
        except OSError as error:
            raise CountersignError(f"cannot write the checkpoint file {self.path}: {error.strerror}") from None

    def last(self) -> Checkpoint | None:
        """The checkpoint of the highest sequence near the file's end; None if there is none. Verifies nothing."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CountersignError(f"cannot read the checkpoint file {self.path}: {error.strerror}") from None
        found = [c for line in lines if (c := _read(line)) is not None]
        return max(found, key=lambda c: c.seq, default=None)

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    @staticmethod
    def _ends_with_a_line(descriptor: int) -> bool:
        size = os.fstat(descriptor).st_size
        return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"

    def _sync_folder(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(line: bytes) -> Checkpoint | None:
    try:
        value = orjson.loads(line)
        return Checkpoint.from_dict(value) if isinstance(value, dict) else None
    except (orjson.JSONDecodeError, InvalidCheckpoint):
        return None
