"""An agent's own NATS key, kept in a file of its own: the seed never leaves it."""

from __future__ import annotations

import json
import os
import stat
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path
from typing import Any

import nkeys  # type: ignore[import-untyped]

from countersign_contracts.errors import CountersignError


class Identity:
    """The key, and the id that the agent was given when it registered with it (none: not yet)."""

    def __init__(self, path: Path, seed: str, agent_id: str | None) -> None:
        self._path = path
        self._seed = seed
        self._pair: Any = nkeys.from_seed(seed.encode())
        self.agent_id = agent_id

    @classmethod
    def kept_in(cls, path: Path) -> Identity:
        """The one in that file; made and written, for its owner alone to read, if there is none.

        Raises :class:`CountersignError` if the file cannot be read or written, holds something else, or if others may
        read it.
        """
        try:
            if not path.exists():
                seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode()
                made = cls(path, seed, None)
                made._write()
                return made
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                raise CountersignError(
                    f"{path} may be read by others (mode {mode:04o}): it holds the agent's key; `chmod 600 {path}`"
                )
            held = json.loads(path.read_text())
            return cls(path, str(held["seed"]), held.get("agent_id"))
        except OSError as error:
            raise CountersignError(f"cannot keep the agent's key in {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError, nkeys.NkeysError):
            raise CountersignError(f"{path} holds no agent's key; name another file, or delete it") from None

    @property
    def public(self) -> str:
        """The public key, as NATS writes it."""
        return str(self._pair.public_key.decode())

    def sign(self, text: bytes) -> str:
        """The signature as Countersign takes it."""
        return urlsafe_b64encode(self._pair.sign(text)).rstrip(b"=").decode()

    def sign_for_nats(self, nonce: str) -> bytes:
        """What nats-server asks for when a connection begins."""
        return b64encode(self._pair.sign(nonce.encode()))

    def known_as(self, agent_id: str) -> None:
        """Remember the id that goes with the key. Raises :class:`CountersignError` if it cannot be written."""
        if agent_id != self.agent_id:
            self.agent_id = agent_id
            try:
                self._write()
            except OSError as error:
                raise CountersignError(f"cannot keep the agent's id in {self._path}: {error.strerror}") from None

    def _write(self) -> None:
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"seed": self._seed, "agent_id": self.agent_id}, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
