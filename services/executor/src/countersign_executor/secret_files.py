"""The secrets as they are now.

Read at start, read anew when their file changes or a change of the catalogue needs them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .secrets import Secrets, SecretsError, read_secrets


class SecretFiles:
    """``path`` as in :func:`.secrets.read_secrets`.

    Unreadable at start is an error, later the last good ones stay.
    """

    def __init__(self, path: Path | None, log: Any) -> None:
        self._path = path
        self._log = log
        self._secrets = read_secrets(path)

    def present(self) -> Secrets:
        """The secrets as last read."""
        return self._secrets

    def reread(self) -> Secrets:
        """Read them again."""
        try:
            self._secrets = read_secrets(self._path)
        except SecretsError as error:
            self._log.error("the secrets cannot be read; the last good ones stay", error=error.detail)
        return self._secrets
