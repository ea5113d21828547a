"""The signing secrets of webhooks: a folder with one file each, named for it, as container platforms mount them.

Read anew for each use: a secret that is replaced counts at once, and nobody restarts anything.
"""

from __future__ import annotations

from pathlib import Path

from .webhooks_signing import NoSigningKey, keys_in


class WebhookSecrets:
    """The folder; None: there are no secrets."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def names(self) -> tuple[str, ...]:
        """Every secret's name."""
        if self._folder is None:
            return ()
        try:
            return tuple(sorted(f.name for f in self._folder.iterdir() if not f.name.startswith(".") and f.is_file()))
        except OSError:
            return ()

    def keys(self, name: str) -> tuple[bytes, ...]:
        """The secret's keys, the newest first; raises :class:`NoSigningKey` saying what is wrong, never the secret."""
        if self._folder is None or name not in self.names():
            raise NoSigningKey(f"the approvals service has no secret `{name}`")
        try:
            return keys_in((self._folder / name).read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise NoSigningKey(f"the secret `{name}` cannot be read: {type(error).__name__}") from None
        except NoSigningKey as error:
            raise NoSigningKey(f"the secret `{name}` is none: {error}") from None

    def fault(self, name: str) -> str | None:
        """What is wrong with a secret; None if it can sign."""
        try:
            self.keys(name)
        except NoSigningKey as error:
            return str(error)
        return None


NO_SECRETS = WebhookSecrets(None)
