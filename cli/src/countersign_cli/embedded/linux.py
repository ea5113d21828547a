"""The few Linux system calls that the standard library (3.11) lacks. Everywhere else they raise `OSError`.

All of them act on the calling process and are meant for a child between fork and exec.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

CAP_DAC_OVERRIDE = 1  # linux/capability.h

_CLONE_NEWUSER = 0x10000000  # linux/sched.h
_PR_SET_PDEATHSIG = 1  # linux/prctl.h, as all PR_*
_PR_SET_KEEPCAPS = 8
_PR_SET_NAME = 15
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522


def _call(name: str, *arguments: object) -> None:
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), name)
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def _prctl(option: int, *arguments: object) -> None:
    padded = [*arguments, *[ctypes.c_ulong(0)] * (4 - len(arguments))]
    _call("prctl", ctypes.c_int(option), *padded)


def unshare_user() -> None:
    """Enters a new user namespace, in which no user is mapped yet. Source: user_namespaces(7)."""
    _call("unshare", ctypes.c_int(_CLONE_NEWUSER))


def signal_when_parent_dies(number: int) -> None:
    """Has the kernel send this signal when the parent dies. A change of user clears it. Source: prctl(2)."""
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number))


def set_process_name(name: str) -> None:
    """Sets the name that `top` and `ps -o comm` show (15 bytes of it)."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]))


def keep_capabilities_over_setuid() -> None:
    """Has a change of user keep the permitted capabilities. Source: capabilities(7)."""
    _prctl(_PR_SET_KEEPCAPS, ctypes.c_ulong(1))


def keep_only_capability(capability: int) -> None:
    """Drops every capability but this one, and passes it on over exec (ambient). Source: capabilities(7)."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    bit = 1 << capability
    # Two words each of effective, permitted, inheritable; the second holds capabilities from 32 on.
    data = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    _call("capset", ctypes.byref(header), ctypes.byref(data))
    _prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_PR_CAP_AMBIENT_RAISE), ctypes.c_ulong(capability))
