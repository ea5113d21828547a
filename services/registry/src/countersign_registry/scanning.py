"""Looks into the configured folders for packages of agents, again and again, and keeps and tells what changed.

A look costs one ``stat`` for each package while nothing changes: no watch of the operating system's, which folders on
network disks and in containers do not have.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from countersign_contracts.catalogue import FileError
from countersign_contracts.model import now
from countersign_contracts.packages import (
    ListPackages,
    PackageChanged,
    PackageDiscovered,
    PackageEvent,
    PackageGone,
    Packages,
    PackageView,
)

from .discovery import FILE, MAX_BYTES, Found, conflicts, difference, read_package
from .outbox import Outbox
from .package_store import PackageStore
from .store import Lock, Store

#: Beyond, folders are listed as errors and not read.
MOST_PACKAGES = 500
_MOST_ERRORS = 200
_PAGE_BYTES = 400 * 1024


@dataclass(frozen=True, slots=True)
class Look:
    """What one look into the folders found. ``faulty`` are the packages' folders that cannot be read now."""

    found: tuple[Found, ...]
    errors: tuple[FileError, ...]
    faulty: tuple[str, ...]


class Folders:
    """The configured folders; each package is a folder in one of them, with ``.env.discovery`` in it."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(dict.fromkeys(folder.absolute() for folder in folders))
        self._version = version("countersign-registry")
        self._read: dict[Path, tuple[tuple[int, ...], tuple[Found | None, list[FileError]]]] = {}

    def look(self) -> Look:
        """Read what changed since the last look. Never raises for what stands in the folders."""
        found: list[Found] = []
        errors: list[FileError] = []
        packages: list[Path] = []
        away: list[Path] = []
        for folder in self.folders:
            try:
                real = folder.resolve(strict=True)
                inside = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
            except FileNotFoundError:
                continue  # not there yet, or no more: nothing is in it
            except OSError as error:
                errors.append(_error(folder, f"the folder cannot be read: {error.strerror}", "a folder that is there"))
                away.append(folder)
                continue
            for entry in inside:
                package, wrong = self._package(entry, real)
                errors += wrong
                if package is not None:
                    found.append(package)
                if package is not None or wrong:
                    packages.append(entry)
        if len(found) > MOST_PACKAGES:
            allowed = f"at most {MOST_PACKAGES} packages"
            errors += [_error(Path(each.file), "one package too many", allowed) for each in found[MOST_PACKAGES:]]
            found = found[:MOST_PACKAGES]
        well, clashes = conflicts(found)
        errors += clashes
        self._read = {path: read for path, read in self._read.items() if path in packages}
        here = {each.package.path for each in well}
        faulty = [str(path) for path in packages if str(path) not in here]
        # while a whole folder cannot be read, nothing in it counts as gone
        faulty += [each.path for path in away for each in self._known_below(path)]
        return Look(tuple(well), tuple(errors[:_MOST_ERRORS]), tuple(faulty))

    def _known_below(self, folder: Path) -> list[Any]:
        return [
            read[0].package for path, (_, read) in self._read.items() if path.parent == folder and read[0] is not None
        ]

    def _package(self, folder: Path, root: Path) -> tuple[Found | None, list[FileError]]:
        file = folder / FILE
        if _shown(folder) != str(folder):
            return None, [_error(folder, "the folder's name is not text", "a name in UTF-8")]
        try:
            seen = file.stat()
            real = file.resolve(strict=True)
        except FileNotFoundError:
            if file.is_symlink():
                return None, [_error(file, "the link leads nowhere", "a file")]
            return None, []  # no package
        except (NotADirectoryError, ValueError):
            return None, []
        except OSError as error:
            return None, [_error(file, f"cannot be read: {error.strerror}", "a file that the registry may read")]
        if not real.is_relative_to(root):
            return None, [_error(file, "the link leads out of the folder with the packages", "a file in that folder")]
        if not stat.S_ISREG(seen.st_mode):
            return None, [_error(file, "not a file", "a regular file")]
        if seen.st_size > MAX_BYTES:
            return None, [_error(file, "the file is too large", f"at most {MAX_BYTES} bytes")]
        mark = (seen.st_mtime_ns, seen.st_size, seen.st_ino, seen.st_ctime_ns)
        known = self._read.get(folder)
        if known is not None and known[0] == mark:
            return known[1]
        try:
            with real.open("rb") as opened:
                body = opened.read(MAX_BYTES + 1)
        except OSError as error:
            return None, [_error(file, f"cannot be read: {error.strerror}", "a file that the registry may read")]
        read = read_package(str(folder), body, self._version)
        self._read[folder] = (mark, read)
        return read


class Discovery:
    """Keeps what is found, and answers what there is."""

    def __init__(
        self,
        folders: Folders,
        store: Store,
        packages: PackageStore,
        outbox: Outbox,
        every_s: float,
        log: Any,
    ) -> None:
        self._folders = folders
        self._store = store
        self._packages = packages
        self._outbox = outbox
        self._every_s = every_s
        self._log = log
        self._kept: Look | None = None

    async def run(self) -> None:
        """Look, for ever; where no folder is configured, once: what was found before is gone."""
        await self.scan()
        while self._folders.folders:
            await asyncio.sleep(self._every_s)
            await self.scan()

    async def scan(self) -> None:
        """Look once, and keep and tell what changed."""
        look = await asyncio.to_thread(self._folders.look)
        if look == self._kept:
            return
        at = now()
        async with self._store.transaction() as connection:
            await self._store.within(connection, Lock.PACKAGES)
            known = await self._packages.all(connection)
            different = difference(known, [each.package for each in look.found], look.faulty)
            await self._packages.look(connection, [str(folder) for folder in self._folders.folders], look.errors)
            if different:
                await self._packages.apply(connection, different, at)
                events: list[PackageEvent] = [
                    *(PackageDiscovered(agent_type=p.agent_type, at=at, package=p) for p in different.new),
                    *(
                        PackageChanged(agent_type=p.agent_type, at=at, before=before, package=p)
                        for before, p in different.changed
                    ),
                    *(PackageGone(agent_type=p.agent_type, at=at, package=p) for p in different.gone),
                ]
                await self._outbox.add(connection, events)
        self._kept = look
        if different:
            self._outbox.wake()
        for error in look.errors:
            self._log.warning("a package is not taken", file=error.path, line=error.line, reason=error.message)

    async def list(self, command: ListPackages) -> Packages:
        """A page of packages by type."""
        found = await self._packages.page(command.after or "", command.limit + 1)
        items: list[PackageView] = []
        size = 0
        for view in found[: command.limit]:
            size += len(view.to_bytes())
            if items and size > _PAGE_BYTES:
                break
            items.append(view)
        folders, errors = await self._packages.looked() if command.after is None else ((), ())
        more = len(found) > len(items)
        return Packages(
            items=tuple(items),
            next=items[-1].package.agent_type if more else None,
            folders=folders,
            errors=errors,
        )


def _error(path: Path, message: str, allowed: str) -> FileError:
    return FileError(path=_shown(path), message=message, allowed=allowed)


def _shown(path: Path) -> str:
    """The path as text; bytes in it that are none as escapes."""
    return os.fsencode(path).decode(errors="backslashreplace")
