"""One-time codes by time (RFC 6238 on RFC 4226): 6 digits, 30 seconds, HMAC-SHA1, as every authenticator app takes.

Pure. Fifteen lines of the standard library: a dependency would not make them safer, and what is hard about one-time
codes (each taken once, wrong ones bounded, the secret kept) is outside of them.
"""

from __future__ import annotations

import hmac
from base64 import b32encode
from datetime import datetime
from urllib.parse import quote

#: RFC 4226 recommends 160 bits.
SECRET_BYTES = 20
STEP_S = 30
DIGITS = 6
#: Steps before and after the present one whose codes are taken: clocks differ, and people type.
WINDOW = 1
ISSUER = "Countersign"


def step_at(at: datetime) -> int:
    """The number of the step that a time is in."""
    return int(at.timestamp()) // STEP_S


def code_of(secret: bytes, step: int) -> str:
    """The code of a step (RFC 4226, 5.3)."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def steps_of(secret: bytes, code: str, at: datetime) -> tuple[int, ...]:
    """The steps around ``at`` whose code it is, the earliest first; usually one or none."""
    present = step_at(at)
    return tuple(
        step
        for step in range(present - WINDOW, present + WINDOW + 1)
        if hmac.compare_digest(code_of(secret, step).encode(), code.encode())
    )


def text_of(secret: bytes) -> str:
    """The secret as people type it: base32."""
    return b32encode(secret).decode()


def uri_of(secret: bytes, person: str) -> str:
    """What an authenticator app reads from a QR code (the key URI format that all of them take)."""
    label = quote(f"{ISSUER}:{person}", safe=":@")
    return (
        f"otpauth://totp/{label}?secret={text_of(secret)}&issuer={ISSUER}"
        f"&algorithm=SHA1&digits={DIGITS}&period={STEP_S}"
    )
