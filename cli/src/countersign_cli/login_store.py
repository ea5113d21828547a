"""The logins of this user, one for each gateway: a file that only they can read, and the access token of the moment.

Refresh tokens count once, and one that is used twice ends its login. So they are used under a lock: of several commands
at once, in several terminals, one refreshes and the others read what it got.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from countersign_contracts.errors import CountersignError

from .embedded.datadir import write_secret

#: An access token that ends sooner than this is not begun with.
_SOON = timedelta(seconds=20)

#: Exchanges a refresh token, given the gateway's URL: the answer of POST /api/v1/tokens.
Refresh = Callable[[str, str], Mapping[str, Any]]


class LoginStore:
    """What is kept below ``folder``; nothing is there before the first login."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser()
        self._file = self.folder / "logins.json"

    def get(self, url: str) -> dict[str, Any] | None:
        """The login at that gateway, if there is one; raises :class:`CountersignError` for a file that is none."""
        found = self._read().get(url)
        return found if isinstance(found, dict) else None

    def put(self, url: str, issued: Mapping[str, Any]) -> None:
        """Keep what the gateway issued in place of what was there."""
        with self._alone():
            self._write(self._read() | {url: dict(issued)})

    def forget(self, url: str) -> None:
        """There is no login at that gateway any more."""
        with self._alone():
            kept = self._read()
            if kept.pop(url, None) is not None:
                self._write(kept)

    def access_token(self, url: str, refresh: Refresh) -> str:
        """One that counts for a while; refreshed where the one at hand ends soon."""
        login = self.get(url)
        if login is not None and not _ends_soon(login):
            return str(login["access_token"])
        with self._alone():
            login = self.get(url)  # somebody else may have refreshed it meanwhile
            if login is None:
                raise _ended(url)
            if _ends_soon(login):
                try:
                    login = dict(refresh(url, str(login["refresh_token"])))
                except CountersignError as error:
                    if error.code != "unauthenticated":
                        raise
                    raise _ended(url, error.detail) from None
                self._write(self._read() | {url: login})
            return str(login["access_token"])

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._file.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise CountersignError(f"{self._file} cannot be read: {error}; delete it and log in again") from None
        return found if isinstance(found, dict) else {}

    def _write(self, logins: Mapping[str, Any]) -> None:
        write_secret(self._file, json.dumps(logins, indent=1) + "\n")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self.folder / "logins.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _ends_soon(login: Mapping[str, Any]) -> bool:
    return datetime.fromisoformat(str(login["expires_at"])) - _SOON <= datetime.now(UTC)


def _ended(url: str, why: str = "you are not logged in any more") -> CountersignError:
    return CountersignError(
        f"{why} ({url}): `countersign login` again, or `countersign logout` to forget it", code="unauthenticated"
    )
