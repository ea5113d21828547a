"""As whom PostgreSQL runs: it refuses to run as root, and `initdb` refuses a user without a name.

In this order: the calling user as it is; the calling user under another number in a user namespace of its own
(its files stay the caller's, and every path that the caller reaches stays in reach); the account `nobody`.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from countersign_cli.embedded import linux
from countersign_cli.embedded.errors import EmbeddedError


class ServerUser(Protocol):
    """A way to run the server. `uid` and `gid` own its files, as seen from outside."""

    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...

    def enter(self) -> None:
        """Makes the calling process that user, for good: for a child before exec. Raises `OSError`."""


@dataclass(frozen=True)
class CallingUser:
    """The caller, unchanged."""

    uid: int
    gid: int

    def enter(self) -> None:
        """Nothing to change."""


@dataclass(frozen=True)
class MappedUser:
    """The caller, seen under another number inside a new user namespace (Linux)."""

    uid: int
    gid: int
    inside_uid: int
    inside_gid: int

    def enter(self) -> None:
        """Enters the namespace and maps the caller in it, all from inside. Source: user_namespaces(7)."""
        linux.unshare_user()
        # Without the first line an unprivileged process may not write the group map.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{self.inside_uid} {self.uid} 1")
        Path("/proc/self/gid_map").write_text(f"{self.inside_gid} {self.gid} 1")


@dataclass(frozen=True)
class Account:
    """An existing unprivileged account that root changes to.

    With `reach` it keeps the one capability to pass path permissions (Linux), for folders private to root.
    """

    uid: int
    gid: int
    reach: bool

    def enter(self) -> None:
        """Changes to the account; there is no way back."""
        if self.reach:
            linux.keep_capabilities_over_setuid()
        os.setgroups([])
        os.setgid(self.gid)
        os.setuid(self.uid)
        if self.reach:
            linux.keep_only_capability(linux.CAP_DAC_OVERRIDE)


def choose_server_user(folder: Path, program: Path) -> ServerUser:
    """The first way to run `program` with its data in `folder` (which exists) that works, tried in a child.

    Raises:
        EmbeddedError: none works; says what to do instead.
    """
    uid = os.geteuid()
    for user in ways(uid):
        if isinstance(user, CallingUser) or _works(user, folder, program):
            return user
    if uid != 0:
        raise EmbeddedError(f"user id {uid} has no name, which PostgreSQL needs: run as a user listed in /etc/passwd")
    raise EmbeddedError(
        f"PostgreSQL does not run as root, and no unprivileged account reaches both {program} and {folder}: "
        "run as an ordinary user, or put the installation and --data-dir where every user can pass through"
    )


def before_exec(user: ServerUser) -> Callable[[], None] | None:
    """What `subprocess` is to run in the child: nothing if nothing changes, because it forks more safely then.

    A child that cannot become that user says why on its standard error, and exits with `os.EX_OSERR`: what is raised
    there, `subprocess` keeps to itself.
    """

    def become() -> None:
        try:
            user.enter()
        except OSError as error:
            os.write(2, f"cannot become the user that PostgreSQL runs as: {error}\n".encode())
            os._exit(os.EX_OSERR)

    return None if isinstance(user, CallingUser) else become


def give_to(user: ServerUser, folder: Path) -> None:
    """Makes the folder and all in it the server's, if it is not so already.

    Raises:
        EmbeddedError: the caller may not.
    """
    if folder.stat().st_uid == user.uid:
        return
    try:
        os.chown(folder, user.uid, user.gid)
        for parent, folders, files in os.walk(folder):
            for name in (*folders, *files):
                os.chown(Path(parent) / name, user.uid, user.gid, follow_symlinks=False)
    except PermissionError as error:
        raise EmbeddedError(
            f"{folder} belongs to user id {folder.stat().st_uid}: run as that, or choose another --data-dir"
        ) from error


def ways(uid: int) -> Iterator[ServerUser]:
    """The ways that a caller of this user id could have, the best first; trying shows which are open."""
    if uid != 0 and _named(uid):
        yield CallingUser(uid, os.getegid())
    account = _unprivileged_account()
    if account is None:
        return
    if sys.platform == "linux":
        yield MappedUser(uid, os.getegid(), account.pw_uid, account.pw_gid)
    if uid == 0:
        if sys.platform == "linux":
            yield Account(account.pw_uid, account.pw_gid, reach=True)
        yield Account(account.pw_uid, account.pw_gid, reach=False)


def _unprivileged_account() -> pwd.struct_passwd | None:
    with suppress(KeyError):
        return pwd.getpwnam("nobody")
    return next((entry for entry in pwd.getpwall() if entry.pw_uid != 0), None)


def _named(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _works(user: ServerUser, folder: Path, program: Path) -> bool:
    """Whether the user can stand above the folder and run the program: a child tries."""
    above = folder.parent
    mode = stat.S_IMODE(above.stat().st_mode)
    opened = isinstance(user, Account) and not user.reach

    def become() -> None:
        user.enter()
        os.chdir(above)

    if opened:  # others may then pass through, not list, not read; what is inside keeps its own permissions
        above.chmod(mode | 0o011)
    try:
        subprocess.run([program, "--version"], env={"LC_ALL": "C"}, preexec_fn=become, capture_output=True, check=True)
    except (OSError, subprocess.SubprocessError):
        if opened:
            above.chmod(mode)
        return False
    return True
